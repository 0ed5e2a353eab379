// Go's net/http, also with HTTP/2; over TLS if it is told a certificate and a key.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
	_ "unsafe" // for go:linkname
)

// CLOCK_MONOTONIC, which package time keeps to itself.
//
//go:linkname nanotime runtime.nanotime
func nanotime() int64

func answer(w http.ResponseWriter, r *http.Request) {
	begun := nanotime()
	wish := map[string]int{"s": 200}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	for i := 0; i+1 < len(parts); i += 2 {
		wish[parts[i]], _ = strconv.Atoi(parts[i+1])
	}
	io.Copy(io.Discard, r.Body)
	time.Sleep(time.Duration(wish["d"]) * time.Millisecond)
	status := wish["s"]
	w.Header().Set("Clock", fmt.Sprint(begun, nanotime()))
	body := bytes.Repeat([]byte("x"), wish["b"])
	if status == 204 || status == 304 {
		w.WriteHeader(status)
		return
	}
	if wish["c"] == 0 {
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.WriteHeader(status)
		w.Write(body)
		return
	}
	w.WriteHeader(status)
	for len(body) > 0 {
		n := min(100, len(body))
		w.Write(body[:n])
		w.(http.Flusher).Flush()
		body = body[n:]
	}
}

func main() {
	address, handler := "127.0.0.1:"+os.Args[1], http.HandlerFunc(answer)
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	server := &http.Server{Addr: address, Handler: handler, Protocols: protocols}
	if len(os.Args) > 2 {
		panic(server.ListenAndServeTLS(os.Args[2], os.Args[3]))
	}
	panic(server.ListenAndServe())
}
