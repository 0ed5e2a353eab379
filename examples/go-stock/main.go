// Stock, in Go with net/http.
//
//	[HOST=0.0.0.0] PORT=8083 go run .
//	PORT=8083 go run . health     is it well?
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"strings"
)

func stock(w http.ResponseWriter, r *http.Request) {
	sku := strings.TrimPrefix(r.URL.Path, "/stock/")
	if strings.HasSuffix(sku, "13") { // the unlucky ones
		http.Error(w, "no such thing", http.StatusNotFound)
		return
	}
	fmt.Fprintf(w, "%d left", len(sku)*7)
}

// An image that has nothing else in it can ask nobody but this program.
func health() {
	answer, err := http.Get("http://127.0.0.1:" + os.Getenv("PORT") + "/health")
	if err != nil || answer.StatusCode != http.StatusOK {
		os.Exit(1)
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "health" {
		health()
		return
	}
	http.HandleFunc("/stock/", stock)
	http.HandleFunc("/health", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	host := os.Getenv("HOST")
	if host == "" {
		host = "127.0.0.1"
	}
	log.Fatal(http.ListenAndServe(host+":"+os.Getenv("PORT"), nil))
}
