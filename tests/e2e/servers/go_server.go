// Go's net/http, also with HTTP/2; over TLS if it is told a certificate and a key.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"reflect"
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
		n := 100
		if n > len(body) {
			n = len(body)
		}
		w.Write(body[:n])
		w.(http.Flusher).Flush()
		body = body[n:]
	}
}

func main() {
	address, handler := "127.0.0.1:"+os.Args[1], http.HandlerFunc(answer)
	server := &http.Server{Addr: address, Handler: handler}
	// since Go 1.24; this is built by older ones, too
	if field := reflect.ValueOf(server).Elem().FieldByName("Protocols"); field.IsValid() {
		protocols, yes := reflect.New(field.Type().Elem()), []reflect.Value{reflect.ValueOf(true)}
		protocols.MethodByName("SetHTTP1").Call(yes)
		protocols.MethodByName("SetHTTP2").Call(yes)
		protocols.MethodByName("SetUnencryptedHTTP2").Call(yes)
		field.Set(protocols)
	}
	if len(os.Args) > 2 {
		panic(server.ListenAndServeTLS(os.Args[2], os.Args[3]))
	}
	panic(server.ListenAndServe())
}
