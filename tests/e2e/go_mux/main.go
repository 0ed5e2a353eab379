// net/http's own routes, in words that every Go since 1.17 understands: each answer is the pattern that was found.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
)

func main() {
	mux := http.NewServeMux()
	for _, pattern := range []string{"/users/", "/files/", "/exact", "/"} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			_, pattern := mux.Handler(r)
			fmt.Fprint(w, pattern)
		})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		panic(err)
	}
	fmt.Println("up")
	http.Serve(listener, mux)
}
