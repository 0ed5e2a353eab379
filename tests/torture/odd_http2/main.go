// Requests of odd shapes by Go's clients of HTTP/2: net/http's, golang.org/x/net's and grpc-go's; every field of what
// arrives, decoded, and every byte of bodies held against what was sent, but for one traceparent that the client has not
// written itself.
// What it is asked as a relay it asks at /<client>/...
//
// With the tag `standard` there is only net/http's client, and no server: so old toolchains can build it.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"os"
	"sort"
	"strings"
	"sync/atomic"
	"time"

	. "autoinstr.test/odd_common"
)

const (
	field    = "traceparent"
	own      = "x-own"    // the request has such a field of its own
	digested = "x-digest" // of the answer: of the fields and bytes that have come
	inserted = "x-inserted"
	small    = 1000 // bytes of fields: such a block is certainly short enough to get the field
	patient  = 100 * time.Second
)

// Fields, in any order, since a client's are in that of a map; then the body, then the trailers.
func digest(fields []string, body []byte, trailers []string) string {
	sum := sha256.New()
	for _, some := range [][]string{fields, trailers} {
		sort.Strings(some)
		for _, one := range some {
			fmt.Fprintf(sum, "%d %s\n", len(one), one)
		}
		sum.Write(body)
		body = nil
	}
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// Who asks, and what became of it: the digest and the field that the server has told, and whether it was cut off.
type asker interface {
	ask(ctx context.Context, r *request) (string, string, error)
}

// How a worker asks. `name`: what the relay knows it by.
type client struct {
	name   string
	secret bool
	rpc    bool
	agent  string // its User-Agent
	make   func(port string, number int) asker
}

var clients = []client{{"std", true, false, "Go-http-client/2.0", standard}}

type doer struct{ http.RoundTripper }

func standard(port string, number int) asker {
	return doer{&http.Transport{
		TLSClientConfig:    &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2:  true,
		DisableCompression: number%3 != 0,
		DialContext:        (&net.Dialer{Timeout: patient}).DialContext,
	}}
}

func (d doer) ask(ctx context.Context, r *request) (string, string, error) {
	made, err := http.NewRequest(r.method, r.address+r.path, r.reader())
	Check(err)
	made.Header = r.header
	if r.trailer != "" {
		made.Trailer = http.Header{"X-Trailer": {r.trailer}}
	}
	response, err := d.RoundTrip(made.WithContext(ctx))
	if err != nil {
		return "", "", err
	}
	_, err = io.Copy(io.Discard, response.Body)
	response.Body.Close()
	if response.ProtoMajor != 2 {
		Wrong("not HTTP/2")
	}
	return response.Header.Get(digested), response.Header.Get(inserted), err
}

// A body that is read in pieces, and does not tell its length.
type pieces struct {
	left  []byte
	piece int
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, io.EOF
	}
	if len(b) > p.piece {
		b = b[:p.piece]
	}
	n := copy(b, p.left)
	p.left = p.left[n:]
	return n, nil
}

type request struct {
	method, address, path string
	header                http.Header
	body                  []byte // nil: none
	piece                 int    // 0: its length is told
	trailer               string
	cut                   bool // it is given up soon
}

func (r *request) reader() io.Reader {
	switch {
	case r.body == nil:
		return nil
	case r.piece > 0:
		return &pieces{r.body, r.piece}
	}
	return bytes.NewReader(r.body)
}

type counts struct {
	Requests int64 `json:"requests"`
	Plain    int64 `json:"plain"` // nothing keeps them from getting the field
	Got      int64 `json:"plain_inserted"`
	Inserted int64 `json:"inserted"`
	Own      int64 `json:"own"`
	Cut      int64 `json:"cut"`
	Failed   int64 `json:"failed"`
}

var total counts

// `clean`: without trace context of its own, which its connection would be left alone for.
func make_request(seed int64, address string, rpc, clean bool) *request {
	random := rand.New(rand.NewSource(seed))
	r := &request{address: address, header: http.Header{}}
	r.method = []string{"GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "ODD"}[random.Intn(10)]
	r.path = fmt.Sprintf("/odd/%d", seed)
	if random.Intn(3) == 0 {
		r.path = "/odd/same"
	}
	if random.Intn(12) == 0 {
		r.path += "/" + strings.Repeat("long", random.Intn(1200))
	}
	h := r.header
	for i := random.Intn(8); i > 0; i-- {
		name := fmt.Sprintf("X-%d", random.Intn(20))
		if random.Intn(2) == 0 {
			h.Add(name, "the same")
		} else {
			h.Add(name, Letters(random, random.Intn(200)))
		}
	}
	switch random.Intn(20) {
	case 0, 1: // a block of about as many bytes as may be
		h.Set("X-Long", strings.Repeat("l", 2500+random.Intn(1200)))
	case 2: // several frames
		h.Set("X-Long", strings.Repeat("l", random.Intn(60000)))
	case 3:
		h.Set("X-Lines", "one Host: two traceparent: three")
	case 4:
		h.Set("X-Traceparent", "00")
	case 5:
		h.Set("Cookie", "one=1; two=2")
	}
	if rpc {
		r.method = "POST"
	}
	size := []int{0, 1, 100, 4095, 16384, 100000}[random.Intn(6)]
	if r.method != "GET" && r.method != "HEAD" {
		switch random.Intn(3) {
		case 0:
			r.body = make([]byte, size)
		case 1:
			r.body, r.piece = []byte(Letters(random, size)), 200+random.Intn(20000)
			if random.Intn(3) == 0 && !rpc {
				r.trailer = Letters(random, 1+random.Intn(40)) + "."
			}
		}
	}
	if !clean && random.Intn(20) == 0 {
		h[[]string{"Traceparent", "traceparent", "traceParent"}[random.Intn(3)]] = []string{
			fmt.Sprintf("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169%06x-01", random.Intn(1<<24))}
		h.Set(own, "1")
	}
	r.cut = random.Intn(50) == 0
	return r
}

// What is to arrive, and how many bytes its fields have.
func expected(c *client, r *request, gzip bool, host string) (string, int) {
	scheme := "http"
	if c.secret {
		scheme = "https"
	}
	fields := []string{":authority: " + host, ":method: " + r.method, ":path: " + r.path, ":scheme: " + scheme}
	for name, values := range r.header {
		for _, value := range values {
			name = strings.ToLower(name)
			if name == "cookie" && !c.rpc {
				for _, crumb := range strings.Split(value, "; ") {
					fields = append(fields, "cookie: "+crumb)
				}
				continue
			}
			fields = append(fields, name+": "+value)
		}
	}
	var trailers []string
	if c.rpc {
		fields = append(fields, "content-type: application/grpc+proto", "te: trailers", "user-agent: "+c.agent)
	} else {
		fields = append(fields, "user-agent: "+c.agent)
		if gzip && r.method != "HEAD" {
			fields = append(fields, "accept-encoding: gzip")
		}
		put := r.method == "POST" || r.method == "PUT" || r.method == "PATCH"
		if r.piece == 0 && (len(r.body) > 0 || put) {
			fields = append(fields, fmt.Sprint("content-length: ", len(r.body)))
		}
		if r.trailer != "" {
			fields = append(fields, "trailer: X-Trailer")
			trailers = []string{"x-trailer: " + r.trailer}
		}
	}
	size := 0
	for _, one := range fields {
		size += len(one) + 2
	}
	body := r.body
	if c.rpc {
		body = append([]byte{0, byte(len(body) >> 24), byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	}
	return digest(fields, body, trailers), size
}

func ask(a asker, c *client, number int, seed int64, port string, clean bool) {
	host := "127.0.0.1:" + port
	address := "http://" + host
	if c.secret {
		address = "https://" + host
	}
	r := make_request(seed, address, c.rpc, clean)
	want, size := expected(c, r, number%3 == 0, host)
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	if r.cut {
		soon := time.AfterFunc(time.Duration(seed%5)*300*time.Microsecond, cancel)
		defer soon.Stop()
	}
	got, added, err := a.ask(ctx, r)
	atomic.AddInt64(&total.Requests, 1)
	if err != nil {
		if !r.cut && ctx.Err() != nil {
			Wrong("request %d of worker %d (%s) hangs: %v", seed, number, c.name, err)
		}
		if r.cut {
			atomic.AddInt64(&total.Cut, 1)
		} else {
			atomic.AddInt64(&total.Failed, 1) // on a connection that the server has ended
			fmt.Fprintln(os.Stderr, c.name, err)
		}
		return
	}
	if got != want {
		Wrong("request %d of worker %d (%s) is not what was sent", seed, number, c.name)
	}
	if r.header.Get(own) != "" {
		atomic.AddInt64(&total.Own, 1)
	}
	// of a call of gRPC it may not be known in time who makes it
	may := clean && size < small && !c.rpc
	if may {
		atomic.AddInt64(&total.Plain, 1)
	}
	if added != "" {
		if len(added) != 55 {
			Wrong("fields %q", added)
		}
		atomic.AddInt64(&total.Inserted, 1)
		if may {
			atomic.AddInt64(&total.Got, 1)
		}
	}
}

func port_for(c *client, plain, secret string) string {
	if c.secret {
		return secret
	}
	return plain
}

// Two workers share a client, so that streams of its connection go at the same time.
func ask_all(requests, seed int64, plain, secret string) {
	var shared asker
	Ask(requests, seed, &total, func(number int) func(seed, at int64) {
		c := &clients[number/2%len(clients)]
		port := port_for(c, plain, secret)
		if number%2 == 0 {
			shared = c.make(port, number/2)
		}
		a := shared
		return func(seed, _ int64) { ask(a, c, number/2, seed, port, number/2%4 != 3) }
	})
}

func relay(plain, secret string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	Check(err)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	made := map[string]asker{}
	ports := map[string]string{}
	for i := range clients {
		c := &clients[i]
		ports[c.name] = port_for(c, plain, secret)
		made[c.name] = c.make(ports[c.name], 2)
	}
	http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, asked *http.Request) {
		name := strings.Split(asked.URL.Path, "/")[1]
		scheme := "http"
		for _, c := range clients {
			if c.name == name && c.secret {
				scheme = "https"
			}
		}
		body, err := io.ReadAll(asked.Body)
		Check(err)
		if len(body) == 0 {
			body = nil
		}
		r := &request{method: asked.Method, address: scheme + "://127.0.0.1:" + ports[name], path: asked.URL.Path, body: body, header: http.Header{}}
		_, added, err := made[name].ask(asked.Context(), r)
		if err != nil {
			http.Error(w, err.Error(), 502)
			return
		}
		io.WriteString(w, added)
	}))
}

func main() { Main(serve, relay, ask_all) }
