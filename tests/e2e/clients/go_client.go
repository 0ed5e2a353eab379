// Go's net/http client; with a second argument it speaks HTTP/2 only.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func main() {
	list, err := os.ReadFile(os.Args[1])
	check(err)
	fmt.Println("up")
	bufio.NewReader(os.Stdin).ReadString('\n')
	transport := http.DefaultTransport.(*http.Transport)
	if len(os.Args) > 2 {
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetHTTP2(true)
		transport.Protocols.SetUnencryptedHTTP2(true)
	}
	failed := 0
	lines := bufio.NewScanner(bytes.NewReader(list))
	for lines.Scan() {
		var method, url, kind string
		var size int
		fmt.Sscan(lines.Text(), &method, &url, &size, &kind)
		var body io.Reader
		if size > 0 {
			body = bytes.NewReader(make([]byte, size))
			if kind == "chunked" {
				body = io.MultiReader(body) // hides its length
			}
		}
		request, err := http.NewRequest(method, url, body)
		check(err)
		begun := time.Now()
		response, err := transport.RoundTrip(request)
		if err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			response.Body.Close()
		}
		fmt.Println(url, time.Since(begun).Nanoseconds())
		if err != nil {
			fmt.Fprintln(os.Stderr, url, err)
			failed = 1
		}
	}
	os.Exit(failed)
}
