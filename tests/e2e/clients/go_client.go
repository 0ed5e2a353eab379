// Go's net/http client.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
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
		response, err := http.DefaultTransport.RoundTrip(request)
		check(err)
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
}
