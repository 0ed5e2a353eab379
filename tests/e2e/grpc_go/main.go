// grpc-go as server and as client of the tests' service, see servers/grpc_echo.py; and as load for the benchmark.
//
// Usage: serve PORT LOG [CERTIFICATE KEY] | call REQUESTS | load PORT SECONDS [own]
// LOG may be empty: nothing is logged then. Messages are bytes: no generated code.
package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	_ "unsafe" // for go:linkname

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const service = "/autoinstr.test.Echo/"

// CLOCK_MONOTONIC, which package time keeps to itself.
//
//go:linkname nanotime runtime.nanotime
func nanotime() int64

type raw struct{}

func (raw) Name() string                      { return "proto" }
func (raw) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }
func (raw) Unmarshal(content []byte, value any) error {
	*value.(*[]byte) = bytes.Clone(content)
	return nil
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

// What the first message asks for.
type wish struct {
	path          string
	code          codes.Code
	delay         time.Duration
	size, answers int
}

func read(message []byte) wish {
	path, _, _ := strings.Cut(string(message), " ")
	parts, found := strings.Split(strings.Trim(path, "/"), "/"), map[string]int{}
	for i := 0; i+1 < len(parts); i += 2 {
		found[parts[i]], _ = strconv.Atoi(parts[i+1])
	}
	return wish{path, codes.Code(found["s"]), time.Duration(found["d"]) * time.Millisecond, found["b"], max(1, found["n"])}
}

type echo struct {
	log *os.File
	mu  sync.Mutex
}

func (e *echo) done(begun int64, method string, wish wish, ctx context.Context) (metadata.MD, error) {
	select {
	case <-time.After(wish.delay):
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	var clock metadata.MD
	if e.log != nil { // who measures wants nothing but the call
		e.mu.Lock()
		fmt.Fprintf(e.log, "%s %s %d\n", method, wish.path, wish.code)
		e.mu.Unlock()
		clock = metadata.Pairs("clock", fmt.Sprint(begun, " ", nanotime()))
	}
	if wish.code != codes.OK {
		return clock, status.Error(wish.code, "as was asked")
	}
	return clock, nil
}

func unary(server any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	begun := nanotime()
	var message []byte
	if err := decode(&message); err != nil {
		return nil, err
	}
	wish := read(message)
	clock, err := server.(*echo).done(begun, "Unary", wish, ctx)
	grpc.SetTrailer(ctx, clock)
	if err != nil {
		return nil, err
	}
	answer := bytes.Repeat([]byte("x"), wish.size)
	return &answer, nil
}

func streaming(method string, up, down bool) grpc.StreamDesc {
	handle := func(server any, stream grpc.ServerStream) error {
		begun := nanotime()
		var first wish
		for n := 0; ; n++ {
			var message []byte
			err := stream.RecvMsg(&message)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if n == 0 {
				first = read(message)
			}
			if up && down {
				answer := bytes.Repeat([]byte("x"), first.size)
				if err := stream.SendMsg(&answer); err != nil {
					return err
				}
			}
			if !up {
				break
			}
		}
		clock, err := server.(*echo).done(begun, method, first, stream.Context())
		stream.SetTrailer(clock)
		if err != nil || up && down {
			return err
		}
		answers := first.answers
		if !down {
			answers = 1
		}
		for range answers {
			answer := bytes.Repeat([]byte("x"), first.size)
			if err := stream.SendMsg(&answer); err != nil {
				return err
			}
		}
		return nil
	}
	return grpc.StreamDesc{StreamName: method, Handler: handle, ClientStreams: up, ServerStreams: down}
}

var desc = grpc.ServiceDesc{
	ServiceName: "autoinstr.test.Echo",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Unary", Handler: unary}},
	Streams: []grpc.StreamDesc{
		streaming("Upload", true, false), streaming("Download", false, true), streaming("Chat", true, true),
	},
}

func serve(port, log string, files []string) {
	options := []grpc.ServerOption{grpc.ForceServerCodec(raw{})}
	if len(files) == 2 {
		own, err := credentials.NewServerTLSFromFile(files[0], files[1])
		check(err)
		options = append(options, grpc.Creds(own))
	}
	server, handler := grpc.NewServer(options...), &echo{}
	if log != "" {
		file, err := os.Create(log)
		check(err)
		handler.log = file
	}
	server.RegisterService(&desc, handler)
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	check(err)
	panic(server.Serve(listener))
}

func dial(target string, secure bool) *grpc.ClientConn {
	own := insecure.NewCredentials()
	if secure {
		var err error
		own, err = credentials.NewClientTLSFromFile(os.Getenv("SSL_CERT_FILE"), "")
		check(err)
	}
	connection, err := grpc.NewClient("dns:///"+target, grpc.WithTransportCredentials(own),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(raw{})), grpc.WithDisableServiceConfig())
	check(err)
	return connection
}

// One call; what came is read and thrown away.
func call(ctx context.Context, connection *grpc.ClientConn, method string, messages [][]byte) error {
	var answer []byte
	if method == "Unary" {
		return connection.Invoke(ctx, service+method, &messages[0], &answer)
	}
	up, down := method != "Download", method != "Upload"
	stream, err := connection.NewStream(ctx, &grpc.StreamDesc{ClientStreams: up, ServerStreams: down}, service+method)
	if err != nil {
		return err
	}
	for _, message := range messages {
		if err := stream.SendMsg(&message); err != nil {
			break // RecvMsg tells why
		}
	}
	check(stream.CloseSend())
	for {
		if err := stream.RecvMsg(&answer); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil || !down {
			return err
		}
	}
}

func calls(list string) {
	content, err := os.ReadFile(list)
	check(err)
	fmt.Println("up")
	bufio.NewReader(os.Stdin).ReadString('\n')
	connections, failed := map[string]*grpc.ClientConn{}, 0
	for _, line := range strings.Split(strings.TrimSpace(string(content)), "\n") {
		var method, target, kind, trace string
		var size int
		fmt.Sscan(line, &method, &target, &size, &kind, &trace)
		place, err := url.Parse(target)
		check(err)
		key := place.Scheme + place.Host
		if connections[key] == nil {
			connections[key] = dial(place.Host, place.Scheme == "grpcs")
		}
		message := []byte(place.Path + " " + strings.Repeat("z", size))
		messages := [][]byte{message}
		if method == "Upload" || method == "Chat" {
			messages = [][]byte{message, message, message}
		}
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		if trace != "-" {
			ctx = metadata.AppendToOutgoingContext(ctx, "traceparent", trace)
		}
		begun := time.Now()
		err = call(ctx, connections[key], method, messages)
		fmt.Println(target, time.Since(begun).Nanoseconds())
		cancel()
		if want := read(message).code; status.Code(err) != want {
			fmt.Fprintln(os.Stderr, target, err)
			failed = 1
		}
	}
	os.Exit(failed)
}

// Unary calls as fast as it goes, 16 at a time on each of two connections. Prints what came of it as JSON. With `own`
// each call has metadata of its own, which goes into the connection's table of header fields.
func load(port string, seconds float64, own bool) {
	var done, failed atomic.Int64
	var all sync.WaitGroup
	begun := time.Now()
	end := begun.Add(time.Duration(seconds * float64(time.Second)))
	for range 2 {
		connection := dial("127.0.0.1:"+port, false)
		for range 16 {
			all.Go(func() {
				message := [][]byte{[]byte("/s/0/d/0/b/16/load")}
				for time.Now().Before(end) {
					ctx := context.Background()
					if own {
						ctx = metadata.AppendToOutgoingContext(ctx, "x-request-id", fmt.Sprintf("%016x", rand.Uint64()))
					}
					if call(ctx, connection, "Unary", message) != nil {
						failed.Add(1)
					}
					done.Add(1)
				}
			})
		}
	}
	all.Wait()
	took := time.Since(begun).Seconds()
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{
		"requests": done.Load(), "rate": float64(done.Load()) / took, "failed": failed.Load(),
	}))
}

func main() {
	switch os.Args[1] {
	case "serve":
		serve(os.Args[2], os.Args[3], os.Args[4:])
	case "call":
		calls(os.Args[2])
	case "load":
		seconds, err := strconv.ParseFloat(os.Args[3], 64)
		check(err)
		load(os.Args[2], seconds, len(os.Args) > 4)
	}
}
