// Requests of odd shapes by net/http's client over HTTP/1, every byte held against what arrives, but for one traceparent
// field that the program has not written itself.
// What it is asked as a relay it asks at /plain/... and /tls/...
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	. "autoinstr.test/odd_common"
)

const (
	field   = "traceparent"
	own     = "X-Own"    // the request has such a field of its own
	refuse  = "X-Refuse" // the answer comes before the body
	closes  = "X-Close"  // the connection ends behind the answer, which does not say so
	added   = 70         // bytes of the field
	longest = 4096       // head that is looked at
	patient = 100 * time.Second
)

// What is left of a line that has been hashed.
func line(r *bufio.Reader) (string, error) {
	text, err := r.ReadString('\n')
	return text, err
}

// One request: what was not inserted goes into a digest. Returns the answer, and whether the connection goes on.
func answer(r *bufio.Reader, w io.Writer) (bool, error) {
	var lines []string
	named := map[string]string{}
	for {
		text, err := line(r)
		if err != nil {
			return false, err
		}
		lines = append(lines, text)
		if text == "\r\n" {
			break
		}
		if colon := strings.IndexByte(text, ':'); colon > 0 && len(lines) > 1 {
			named[strings.ToLower(text[:colon])] = strings.TrimSpace(text[colon+1:])
		}
	}
	digest := sha256.New()
	var inserted []string
	_, has := named[strings.ToLower(own)]
	for i, text := range lines {
		if i > 0 && !has && strings.HasPrefix(strings.ToLower(text), field+":") {
			inserted = append(inserted, strings.TrimSpace(text[len(field)+1:]))
			continue
		}
		io.WriteString(digest, text)
	}
	_, no := named[strings.ToLower(refuse)]
	if named["expect"] == "100-continue" && !no {
		if _, err := io.WriteString(w, "HTTP/1.1 100 Continue\r\n\r\n"); err != nil {
			return false, err
		}
	}
	status := "200 OK"
	if no {
		status = "417 Expectation Failed"
	} else if named["transfer-encoding"] == "chunked" {
		for size := int64(1); size != 0; {
			text, err := line(r)
			if err != nil {
				return false, err
			}
			io.WriteString(digest, text)
			if size, err = strconv.ParseInt(strings.TrimSpace(text), 16, 64); err != nil {
				return false, err
			}
			if size != 0 {
				if _, err = io.CopyN(digest, r, size+2); err != nil {
					return false, err
				}
			}
		}
		for {
			text, err := line(r)
			if err != nil {
				return false, err
			}
			io.WriteString(digest, text)
			if text == "\r\n" {
				break
			}
		}
	} else if size, _ := strconv.ParseInt(named["content-length"], 10, 64); size > 0 {
		if _, err := io.CopyN(digest, r, size); err != nil {
			return false, err
		}
	}
	_, err := fmt.Fprintf(w, "HTTP/1.1 %s\r\nX-Digest: %x\r\nX-Inserted: %s\r\nContent-Length: 0\r\n\r\n",
		status, digest.Sum(nil), strings.Join(inserted, ","))
	_, end := named[strings.ToLower(closes)]
	return !end && !no, err
}

func serve(certificate, key string) {
	Serve(certificate, key, nil, func(conn net.Conn) {
		defer conn.Close()
		r := bufio.NewReader(conn)
		var err error
		for on := true; on && err == nil; {
			on, err = answer(r, conn)
		}
	})
}

// A body that is read in pieces, and does not tell its length.
type pieces struct {
	left, piece int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n := p.piece
	if n > p.left {
		n = p.left
	}
	if n > len(b) {
		n = len(b)
	}
	for i := range b[:n] {
		b[i] = byte(p.left - i)
	}
	p.left -= n
	return n, nil
}

// What holds a connection, as many programs have it.
type held struct{ net.Conn }

func transport(number int) *http.Transport {
	dialer := &net.Dialer{Timeout: patient}
	t := &http.Transport{
		TLSClientConfig:       &tls.Config{InsecureSkipVerify: true},
		TLSNextProto:          map[string]func(string, *tls.Conn) http.RoundTripper{},
		WriteBufferSize:       []int{0, 0, 65536, 8192, 0, 1024, 300, 64}[number/2%8],
		DisableCompression:    number%3 != 0,
		ExpectContinueTimeout: patient,
		DialContext:           dialer.DialContext,
	}
	if number%5 == 0 {
		t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			return held{conn}, err
		}
	}
	return t
}

type counts struct {
	Requests int64 `json:"requests"`
	Plain    int64 `json:"plain"` // nothing keeps them from getting the field
	Got      int64 `json:"plain_inserted"`
	Inserted int64 `json:"inserted"`
	Own      int64 `json:"own"`
	Failed   int64 `json:"failed"`
	Retried  int64 `json:"retried"`
}

var total counts

// A request as `random` has it; the same state of that makes the same one.
func make_request(seed int64, address string) *http.Request {
	random := rand.New(rand.NewSource(seed))
	method := []string{"GET", "GET", "GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS", "ODD"}[random.Intn(10)]
	path := fmt.Sprintf("/%d", seed)
	switch random.Intn(12) {
	case 0:
		path += "/" + strings.Repeat("long", random.Intn(1200))
	case 1:
		path += "?traceparent=1&x=HTTP/1.1"
	}
	var body io.Reader
	size := []int{0, 1, 100, 4095, 4096, 40000}[random.Intn(6)]
	if method != "GET" && method != "HEAD" {
		switch random.Intn(4) {
		case 0:
			body = bytes.NewReader(make([]byte, size))
		case 1: // of an empty one net/http finds out that it is, if it is not busy for a fifth of a second
			body = &pieces{size + 1, random.Intn(5000) + 1}
		case 2:
			body = strings.NewReader("GET / HTTP/1.1\r\nHost: x\r\ntraceparent: none\r\n\r\n")
		}
	}
	request, err := http.NewRequest(method, address+path, body)
	Check(err)
	h := request.Header
	for i := random.Intn(8); i > 0; i-- {
		h.Add(fmt.Sprintf("X-%d", random.Intn(20)), Letters(random, random.Intn(200)))
	}
	switch random.Intn(16) {
	case 0, 1, 2: // about as long as the buffer
		h.Set("X-Long", strings.Repeat("l", 3500+random.Intn(700)))
	case 3:
		h.Set("X-Long", strings.Repeat("l", random.Intn(20000)))
	case 4:
		h.Set("X-Lines", "one Host: two traceparent: three")
		h.Set("X-Traceparent", "00")
	case 5:
		h.Set("User-Agent", "")
	case 6:
		h["x-forwarded-Host"] = []string{"Host: "}
		h["race"] = []string{"tracepa"}
	}
	if random.Intn(12) == 0 {
		h[[]string{"Traceparent", "traceparent", "TRACEPARENT", "tracePARENT"}[random.Intn(4)]] = []string{
			"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
		h.Set(own, "1")
	}
	if body != nil && random.Intn(6) == 0 {
		h.Set("Expect", "100-continue")
		if random.Intn(4) == 0 {
			h.Set(refuse, "1")
		}
	}
	if random.Intn(40) == 0 {
		h.Set(closes, "1")
	}
	if random.Intn(40) == 0 {
		request.Close = true
	}
	return request
}

// What is to arrive, and how long the head is without its last line.
func expected(request *http.Request, t *http.Transport) (string, int) {
	var wire bytes.Buffer
	if err := request.Write(&wire); err != nil {
		Wrong("%v", err)
	}
	at := bytes.Index(wire.Bytes(), []byte("\r\n\r\n")) + 2
	head, rest := string(wire.Bytes()[:at]), wire.Bytes()[at:]
	if request.Header.Get(own) == "" && strings.Contains(strings.ToLower(head), "\n"+field+":") {
		Wrong("a field in what is not sent: %q", head)
	}
	if !t.DisableCompression && request.Method != "HEAD" {
		head += "Accept-Encoding: gzip\r\n"
	}
	if request.Header.Get(refuse) != "" {
		rest = rest[:2]
	}
	digest := sha256.New()
	io.WriteString(digest, head)
	digest.Write(rest)
	return fmt.Sprintf("%x", digest.Sum(nil)), len(head)
}

func ask(t *http.Transport, number int, seed int64, address string) {
	digest, head := expected(make_request(seed, address), t)
	request := make_request(seed, address)
	tries := 0
	ctx, cancel := context.WithTimeout(context.Background(), patient)
	defer cancel()
	if seed%7 == 0 {
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
			WroteHeaderField: func(string, []string) {},
			GotConn:          func(httptrace.GotConnInfo) { tries++ },
		})
	}
	response, err := t.RoundTrip(request.WithContext(ctx))
	atomic.AddInt64(&total.Requests, 1)
	if err != nil {
		if ctx.Err() != nil {
			Wrong("%s hangs: %v", request.URL, err)
		}
		atomic.AddInt64(&total.Failed, 1) // on a connection that the server has ended
		return
	}
	io.Copy(io.Discard, response.Body)
	response.Body.Close()
	if tries > 1 {
		atomic.AddInt64(&total.Retried, 1)
	}
	if got := response.Header.Get("X-Digest"); got != digest {
		Wrong("request %d of worker %d is not what was sent", seed, number)
	}
	room := t.WriteBufferSize
	if room == 0 {
		room = 4096
	}
	may := request.Header.Get(own) == "" && head <= longest && room-head >= added+2 && number%5 != 0
	if request.Header.Get(own) != "" {
		atomic.AddInt64(&total.Own, 1)
	}
	if may {
		atomic.AddInt64(&total.Plain, 1)
	}
	if inserted := response.Header.Get("X-Inserted"); inserted != "" {
		if len(inserted) != 55 {
			Wrong("fields %q", inserted)
		}
		atomic.AddInt64(&total.Inserted, 1)
		if may {
			atomic.AddInt64(&total.Got, 1)
		}
	}
}

func ask_all(requests, seed int64, plain, secret string) {
	Ask(requests, seed, &total, func(number int) func(seed, at int64) {
		t := transport(number)
		address := "http://127.0.0.1:" + plain
		if number%2 == 1 {
			address = "https://127.0.0.1:" + secret
		}
		return func(seed, at int64) {
			ask(t, number, seed, address)
			if at%97 == 0 {
				t.CloseIdleConnections()
			}
		}
	})
}

func relay(plain, secret string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	Check(err)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	client := &http.Client{Transport: transport(2)}
	http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		address := "http://127.0.0.1:" + plain
		if strings.HasPrefix(r.URL.Path, "/tls/") {
			address = "https://127.0.0.1:" + secret
		}
		request, err := http.NewRequest(r.Method, address+r.URL.Path, r.Body)
		Check(err)
		request.ContentLength = r.ContentLength
		for _, name := range []string{own, "Traceparent"} {
			if value := r.Header.Get(name); value != "" {
				request.Header.Set(name, value)
			}
		}
		response, err := client.Do(request)
		if err != nil {
			http.Error(w, err.Error(), 502)
			return
		}
		response.Body.Close()
		io.WriteString(w, response.Header.Get("X-Inserted"))
	}))
}

func main() { Main(serve, relay, ask_all) }
