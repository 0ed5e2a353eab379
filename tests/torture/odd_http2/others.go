//go:build !standard

package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"

	. "autoinstr.test/odd_common"
	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

func init() {
	rpc := "odd grpc-go/" + grpc.Version
	clients = append(clients,
		client{"x", true, false, "Go-http-client/2.0", x_secret},
		client{"x-plain", false, false, "Go-http-client/2.0", x_plain},
		client{"rpc", true, true, rpc, rpc_with(true)},
		client{"rpc-plain", false, true, rpc, rpc_with(false)},
	)
}

func x_secret(_ string, number int) asker {
	return doer{&http2.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableCompression: number%3 != 0,
	}}
}

func x_plain(_ string, number int) asker {
	return doer{&http2.Transport{
		AllowHTTP: true, DisableCompression: number%3 != 0,
		DialTLSContext: func(ctx context.Context, network, address string, _ *tls.Config) (net.Conn, error) {
			return (&net.Dialer{Timeout: patient}).DialContext(ctx, network, address)
		},
	}}
}

// Messages are bytes.
type raw struct{}

func (raw) Name() string                              { return "proto" }
func (raw) Marshal(value any) ([]byte, error)         { return value.([]byte), nil }
func (raw) Unmarshal(content []byte, value any) error { return nil }

type caller struct{ *grpc.ClientConn }

func rpc_with(secret bool) func(string, int) asker {
	return func(port string, number int) asker {
		how := insecure.NewCredentials()
		if secret {
			how = credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
		}
		conn, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(how), grpc.WithUserAgent("odd"),
			grpc.WithSharedWriteBuffer(number%2 == 0))
		Check(err)
		return caller{conn}
	}
}

func (c caller) ask(ctx context.Context, r *request) (string, string, error) {
	var pairs []string
	for name, values := range r.header {
		for _, value := range values {
			pairs = append(pairs, strings.ToLower(name), value)
		}
	}
	var answer metadata.MD
	var message []byte
	body := r.body
	if body == nil {
		body = []byte{}
	}
	err := c.Invoke(metadata.AppendToOutgoingContext(ctx, pairs...), r.path, body, &message,
		grpc.ForceCodec(raw{}), grpc.Header(&answer))
	h := http.Header{}
	for name, values := range answer {
		h[http.CanonicalHeaderKey(name)] = values
	}
	return h.Get(digested), h.Get(inserted), err
}
