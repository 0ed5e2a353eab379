//go:build !standard

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"

	. "autoinstr.test/odd_common"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const window = 1 << 20

// What has come of a stream.
type stream struct {
	fields, trailers, inserted []string
	body                       bytes.Buffer
	own, rpc                   bool
}

// One connection, frame by frame.
type conn struct {
	*http2.Framer
	out     *bufio.Writer
	block   bytes.Buffer
	encoder *hpack.Encoder
	streams map[uint32]*stream
	last    uint32
	left    int // requests until it goes away
	going   bool
}

var connections int64

func handle(c net.Conn) error {
	defer c.Close()
	number := int(atomic.AddInt64(&connections, 1))
	r := bufio.NewReader(c)
	preface := make([]byte, len(http2.ClientPreface))
	if _, err := io.ReadFull(r, preface); err != nil || string(preface) != http2.ClientPreface {
		return fmt.Errorf("preface %q: %v", preface, err)
	}
	one := &conn{out: bufio.NewWriter(c), streams: map[uint32]*stream{}, left: 30 + number%7*100}
	one.Framer = http2.NewFramer(one.out, r)
	one.encoder = hpack.NewEncoder(&one.block)
	one.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	one.ReadMetaHeaders.SetAllowedMaxDynamicTableSize(65536)
	one.MaxHeaderListSize = 1 << 20
	one.WriteSettings(
		http2.Setting{ID: http2.SettingHeaderTableSize, Val: []uint32{4096, 0, 65536, 200}[number/8%4]},
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: []uint32{100, 3, 250}[number%3]},
		http2.Setting{ID: http2.SettingMaxFrameSize, Val: []uint32{16384, 1 << 20}[number%2]},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: window},
	)
	for {
		if err := one.out.Flush(); err != nil {
			return err
		}
		frame, err := one.ReadFrame()
		if err != nil {
			return err
		}
		if err := one.take(frame); err != nil {
			return err
		}
		if one.going && len(one.streams) == 0 {
			one.out.Flush()
			return nil
		}
	}
}

func (c *conn) take(frame http2.Frame) error {
	switch f := frame.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			return c.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			return c.WritePing(true, f.Data)
		}
	case *http2.RSTStreamFrame:
		delete(c.streams, f.StreamID)
	case *http2.DataFrame:
		if size := uint32(len(f.Data())); size > 0 {
			c.WriteWindowUpdate(0, size)
			c.WriteWindowUpdate(f.StreamID, size)
		}
		if s := c.streams[f.StreamID]; s != nil {
			s.body.Write(f.Data())
			if f.StreamEnded() {
				return c.answer(f.StreamID, s)
			}
		}
	case *http2.MetaHeadersFrame:
		if f.Truncated || f.StreamID%2 == 0 {
			return fmt.Errorf("a header block that is %v", f)
		}
		s := c.streams[f.StreamID]
		if s == nil {
			if f.StreamID <= c.last || c.going {
				return nil // of one that was given up
			}
			c.last = f.StreamID
			s = &stream{}
			c.streams[f.StreamID] = s
			s.take(f)
		} else {
			for _, field := range f.Fields {
				s.trailers = append(s.trailers, field.Name+": "+field.Value)
			}
		}
		if f.StreamEnded() {
			return c.answer(f.StreamID, s)
		}
	}
	return nil
}

func (s *stream) take(f *http2.MetaHeadersFrame) {
	for _, one := range f.Fields {
		s.own = s.own || one.Name == own
	}
	for i, one := range f.Fields {
		if one.Name == field && !s.own {
			if i+1 != len(f.Fields) {
				fmt.Fprintln(os.Stderr, "not the last field")
				os.Exit(1)
			}
			s.inserted = append(s.inserted, one.Value)
			continue
		}
		if one.Name == "content-type" && strings.HasPrefix(one.Value, "application/grpc") {
			s.rpc = true
			one.Value = "application/grpc+proto"
		}
		if one.Name == "grpc-timeout" {
			continue // is never the same
		}
		s.fields = append(s.fields, one.Name+": "+one.Value)
	}
}

func (c *conn) head(id uint32, ends bool, pairs ...string) error {
	c.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		c.encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return c.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: c.block.Bytes(), EndStream: ends, EndHeaders: true})
}

func (c *conn) answer(id uint32, s *stream) error {
	delete(c.streams, id)
	pairs := []string{":status", "200", digested, digest(s.fields, s.body.Bytes(), s.trailers), inserted, strings.Join(s.inserted, ",")}
	if s.rpc {
		c.head(id, false, append(pairs, "content-type", "application/grpc")...)
		c.WriteData(id, false, make([]byte, 5))
		c.head(id, true, "grpc-status", "0")
	} else {
		c.head(id, true, pairs...)
	}
	if c.left--; c.left == 0 {
		c.going = true
		return c.WriteGoAway(c.last, http2.ErrCodeNo, nil)
	}
	return nil
}

func serve(certificate, key string) {
	Serve(certificate, key, []string{"h2"}, func(accepted net.Conn) {
		if err := handle(accepted); err != nil && os.Getenv("ODD_VERBOSE") != "" {
			fmt.Fprintln(os.Stderr, err)
		}
	})
}
