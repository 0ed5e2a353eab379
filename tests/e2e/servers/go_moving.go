// HTTP/1 by hand over crypto/tls, with buffers on stacks that Go moves: they grow in the middle of calls, and the garbage
// collector makes them smaller while they wait.
package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"
)

//go:noinline
func deep(n int) byte {
	var frame [1024]byte
	if n > 0 {
		frame[n] = deep(n - 1)
	}
	return frame[0]
}

//go:noinline
func answer(c *tls.Conn) bool {
	var buffer [4096]byte // does not escape
	size := 0
	for !bytes.HasSuffix(buffer[:size], []byte("\r\n\r\n")) {
		n, err := c.Read(buffer[size:])
		size += n
		if err != nil {
			return false
		}
	}
	_, err := c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nmoved"))
	return err == nil
}

func serve(c net.Conn) {
	defer c.Close()
	for n := 0; answer(c.(*tls.Conn)); n++ {
		deep(n * 7 % 60)
	}
}

func main() {
	certificate, err := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
	if err != nil {
		panic(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{certificate}}
	listener, err := tls.Listen("tcp", "127.0.0.1:"+os.Args[1], config)
	if err != nil {
		panic(err)
	}
	go func() {
		for {
			time.Sleep(2 * time.Millisecond)
			runtime.GC()
		}
	}()
	for {
		c, err := listener.Accept()
		if err != nil {
			fmt.Println(err)
			return
		}
		go serve(c)
	}
}
