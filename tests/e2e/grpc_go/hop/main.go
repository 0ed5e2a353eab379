// net/http and grpc-go as a hop of a chain, see ../../hops/__init__.py.
//
// Arguments: http or grpc (what it serves), name, port, log, next; for TLS also certificate and key.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const service = "/chain.Hop/"

var (
	name, next string
	made       atomic.Int64
	log        *os.File
	client     *http.Client
	anew       *http.Client // a connection for each request
	channel    *grpc.ClientConn
	queue      = make(chan func())
)

func check(err error) {
	if err != nil {
		panic(err)
	}
}

type raw struct{}

func (raw) Name() string                { return "proto" }
func (raw) Marshal(any) ([]byte, error) { return []byte("x"), nil }
func (raw) Unmarshal([]byte, any) error { return nil }

func call(served string, base string, client *http.Client) {
	id := fmt.Sprint(name, "-", made.Add(1))
	if channel != nil {
		fmt.Fprintln(log, served, service+id)
		check(channel.Invoke(context.Background(), service+id, nil, nil, grpc.ForceCodec(raw{})))
		return
	}
	fmt.Fprintln(log, served, "/"+id)
	response, err := client.Get(base + "/" + id)
	check(err)
	io.Copy(io.Discard, response.Body)
	response.Body.Close()
}

// What a request asks for, by the beginning of its path.
func serve(path string) {
	if next == "-" {
		return
	}
	var all sync.WaitGroup
	switch way, _, _ := strings.Cut(path[1:], "/"); way {
	case "fan":
		for range 3 {
			all.Go(func() { call(path, next, client) })
		}
	case "late":
		go func() {
			time.Sleep(5 * time.Millisecond)
			call(path, next, client)
		}()
	case "pause":
		time.Sleep(2 * time.Millisecond)
		call(path, next, client)
	case "handed":
		all.Add(1)
		queue <- func() { call(path, next, client); all.Done() }
	case "name":
		call(path, strings.Replace(next, "127.0.0.1", "localhost", 1), anew)
	default:
		call(path, next, client)
	}
	all.Wait()
}

func connect() {
	if next == "-" {
		return
	}
	to, err := url.Parse(next)
	check(err)
	if to.Scheme == "grpc" {
		channel, err = grpc.NewClient(to.Host, grpc.WithTransportCredentials(insecure.NewCredentials()))
		check(err)
		return
	}
	known, transport := x509.NewCertPool(), http.DefaultTransport.(*http.Transport)
	if authority, err := os.ReadFile(os.Getenv("SSL_CERT_FILE")); err == nil {
		known.AppendCertsFromPEM(authority)
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: known}
	transport.MaxIdleConnsPerHost = 64
	client = &http.Client{Transport: transport}
	once := transport.Clone()
	once.DisableKeepAlives = true
	anew = &http.Client{Transport: once}
}

func main() {
	serves, port, files := os.Args[1], os.Args[3], os.Args[6:]
	name, next = os.Args[2], os.Args[5]
	var err error
	log, err = os.OpenFile(os.Args[4], os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	check(err)
	connect()
	for range 4 {
		go func() {
			for work := range queue {
				work()
			}
		}()
	}
	if os.Getenv("HOP_BACKGROUND") != "" {
		go func() {
			for range time.Tick(10 * time.Millisecond) {
				call("-", next, client)
			}
		}()
	}
	address := "127.0.0.1:" + port
	if serves == "grpc" {
		listener, err := net.Listen("tcp", address)
		check(err)
		handle := func(_ any, stream grpc.ServerStream) error {
			method, _ := grpc.MethodFromServerStream(stream)
			serve(method)
			check(stream.RecvMsg(nil))
			return stream.SendMsg(nil)
		}
		panic(grpc.NewServer(grpc.ForceServerCodec(raw{}), grpc.UnknownServiceHandler(handle)).Serve(listener))
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve(r.URL.Path)
		w.Header().Set("Content-Length", "2")
		io.WriteString(w, "ok")
	})
	if len(files) > 0 {
		panic(http.ListenAndServeTLS(address, files[0], files[1], handler))
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	server := http.Server{Addr: address, Handler: handler, Protocols: protocols}
	panic(server.ListenAndServe())
}
