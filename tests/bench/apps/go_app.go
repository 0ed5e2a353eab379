// Go's net/http: a small answer in JSON. With a certificate and its key as further arguments: https.
package main

import (
	"encoding/json"
	"net/http"
	"os"
	"strconv"
)

func item(w http.ResponseWriter, r *http.Request) {
	number, _ := strconv.Atoi(r.PathValue("number"))
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{"number": number, "name": "a thing"})
}

func main() {
	http.HandleFunc("GET /item/{number}", item)
	if len(os.Args) > 2 {
		panic(http.ListenAndServeTLS("127.0.0.1:"+os.Args[1], os.Args[2], os.Args[3], nil))
	}
	panic(http.ListenAndServe("127.0.0.1:"+os.Args[1], nil))
}
