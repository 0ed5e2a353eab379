// Package odd_common is what programs share that send requests of odd shapes: their words, workers and servers.
//
//	odd serve CERTIFICATE KEY          prints its two ports, plain and of TLS
//	odd ask REQUESTS SEED PORT PORT    prints "ready", waits for a line, asks, prints what it has counted as JSON
//	odd relay PORT PORT                prints its port; what it is asked it asks there
package odd_common

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"math/rand"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

const workers = 16

// Check ends the program if there is an error.
func Check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Wrong tells whoever has started the program what is, and ends it.
func Wrong(format string, words ...interface{}) {
	fmt.Printf("wrong: "+format+"\n", words...)
	os.Exit(1)
}

// Letters are such as may stand in a field, among them what looks like one.
func Letters(random *rand.Rand, size int) string {
	text := make([]byte, size)
	for i := range text {
		text[i] = "abcdefghijklmnopqrstuvwxyzTR-: /=%"[random.Intn(34)]
	}
	return strings.TrimSpace(string(text))
}

// Serve hands each connection, plain or of TLS with these protocols, to a goroutine of its own.
func Serve(certificate, key string, protocols []string, handle func(net.Conn)) {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	Check(err)
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	Check(err)
	secret, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: protocols})
	Check(err)
	take := func(listener net.Listener) {
		for {
			conn, err := listener.Accept()
			Check(err)
			go handle(conn)
		}
	}
	fmt.Println(plain.Addr().(*net.TCPAddr).Port, secret.Addr().(*net.TCPAddr).Port)
	go take(plain)
	take(secret)
}

// Ask lets workers, made one after the other, ask at the same time until all requests are made: the one numbered `at` by
// a seed of its own. Then it prints `total`.
func Ask(requests, seed int64, total interface{}, worker func(number int) func(seed, at int64)) {
	fmt.Println("ready")
	bufio.NewReader(os.Stdin).ReadString('\n')
	var group sync.WaitGroup
	next := int64(0)
	for number := 0; number < workers; number++ {
		ask := worker(number)
		group.Add(1)
		go func() {
			defer group.Done()
			for at := atomic.AddInt64(&next, 1); at <= requests; at = atomic.AddInt64(&next, 1) {
				ask(seed*1000000007+at, at)
			}
		}()
	}
	group.Wait()
	words, _ := json.Marshal(total)
	fmt.Println(string(words))
}

// Main does what the command line says.
func Main(serve, relay func(one, other string), ask func(requests, seed int64, plain, secret string)) {
	words := os.Args[2:]
	switch os.Args[1] {
	case "serve":
		serve(words[0], words[1])
	case "relay":
		relay(words[0], words[1])
	case "ask":
		requests, err := strconv.ParseInt(words[0], 10, 64)
		Check(err)
		seed, err := strconv.ParseInt(words[1], 10, 64)
		Check(err)
		ask(requests, seed, words[2], words[3])
	}
}
