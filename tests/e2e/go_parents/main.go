// A server whose handlers ask another one: over HTTP/1 and HTTP/2, by themselves and in goroutines that they begin.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func main() {
	asked, err := net.Listen("tcp", "127.0.0.1:"+os.Args[2])
	if err != nil {
		panic(err)
	}
	var both, second http.Protocols
	both.SetHTTP1(true)
	both.SetUnencryptedHTTP2(true)
	second.SetUnencryptedHTTP2(true)
	clients := map[string]*http.Client{
		"http1": {Transport: &http.Transport{MaxIdleConnsPerHost: 2}},
		"http2": {Transport: &http.Transport{Protocols: &second}},
	}
	ask := func(client *http.Client, path string) {
		response, err := client.Get("http://" + asked.Addr().String() + path)
		if err != nil {
			panic(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
	}
	// /ask/<client>/<goroutine>/<id>
	asking := func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.URL.Path, "/")
		client, path := clients[parts[2]], "/asked/"+parts[4]
		if parts[3] == "own" {
			done := make(chan struct{})
			go func() { ask(client, path); close(done) }()
			<-done
		} else if parts[3] == "later" {
			go func() { time.Sleep(2 * time.Millisecond); ask(client, path) }()
		} else {
			ask(client, path)
		}
		fmt.Fprint(w, "done")
	}
	answering := http.Server{Protocols: &both, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.URL.Path)
	})}
	go answering.Serve(asked)
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		panic(err)
	}
	if len(os.Args) > 3 { // ids of goroutines are given out in lots to each processor: these make them differ widely
		go func() {
			for {
				for range 1000 {
					go func() {}()
				}
				time.Sleep(time.Millisecond)
			}
		}()
	}
	fmt.Println("up")
	(&http.Server{Protocols: &both, Handler: http.HandlerFunc(asking)}).Serve(listener)
}
