// HTTP/1 by hand over crypto/tls, by a process that kills itself in the middle of tls.Conn.Write: when all that it writes
// has gone over the socket, and before Write has returned.
package main

import (
	"bytes"
	"crypto/tls"
	"net"
	"os"
	"syscall"
)

type dying struct {
	net.Conn
	now bool
}

func (d *dying) Write(b []byte) (int, error) {
	n, err := d.Conn.Write(b)
	if d.now {
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return n, err
}

func serve(socket *dying, config *tls.Config) {
	c := tls.Server(socket, config)
	buffer := make([]byte, 4096)
	for {
		n, err := c.Read(buffer)
		if err != nil {
			return
		}
		socket.now = bytes.Contains(buffer[:n], []byte("last"))
		c.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ndying"))
	}
}

func main() {
	certificate, err := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
	if err != nil {
		panic(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[1])
	if err != nil {
		panic(err)
	}
	for {
		c, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go serve(&dying{Conn: c}, &tls.Config{Certificates: []tls.Certificate{certificate}})
	}
}
