// Where fields lie in structures of Go modules, version by version: writes autoinstr/libraries/go_layouts.json.
//
//	go run scripts/go_layouts.go                        # all versions; what is written there already is not fetched again
//	go run scripts/go_layouts.go -check MODULE@VERSION  # is what is written there of this one right?
//
// Sources come from the module proxy, by the ordinary go command. Types are looked at, nothing is built.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"go/version"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const (
	table     = "autoinstr/libraries/go_layouts.json"
	toolchain = "golang.org/toolchain"
	system    = ".linux-amd64"
	oldest    = "go1.17" // that passes arguments in registers
)

// What is asked of a module: fields by the name of their type, in the package in this folder. A field of a field that is
// a structure itself is written with a dot.
// Go itself comes as a module, too: of its versions the last of each minor one is asked.
type question struct {
	folder string
	// "Context.RoutePatterns" -> the name under which it is written. Behind a last step "()" lies what an interface
	// holds, or the pointer itself; behind "*" it is asked whether the field is a pointer: 1 if so.
	fields map[string]string
}

var modules = map[string][]question{
	toolchain: {
		{"src/runtime", map[string]string{
			"g.goid": "goid", "g.parentGoid": "parent", "g.m": "machine", "m.p": "processor", "m.oldp": "left",
			"p.goidcache": "ids",
		}},
		{"src/bufio", map[string]string{"Writer.buf": "buffer", "Writer.n": "buffered", "Writer.wr": "buffered_for"}},
		{"src/net/http", map[string]string{
			"persistConn.conn": "client", "http2serverConn.conn": "server", "http2responseWriter.rws": "state",
			"http2responseWriterState.stream": "stream", "http2stream.id": "id",
			"http2ClientConn.fr": "h2_framer", "http2ClientConn.bw": "h2_writer", "http2ClientConn.henc": "h2_encoder",
			"http2ClientConn.tconn": "h2_conn", "http2HeadersFrameParam.BlockFragment": "block",
			"http2HeadersFrameParam.EndHeaders": "whole", "http2HeadersFrameParam.PadLength": "padding",
		}},
		{"src/net/http/internal/http2", map[string]string{
			"serverConn.conn": "server", "responseWriter.rws": "state", "responseWriterState.stream": "stream",
			"stream.id": "id", "ClientConn.fr": "h2_framer", "ClientConn.bw": "h2_writer", "ClientConn.henc": "h2_encoder",
			"ClientConn.tconn": "h2_conn", "HeadersFrameParam.BlockFragment": "block", "HeadersFrameParam.EndHeaders": "whole",
			"HeadersFrameParam.PadLength": "padding",
		}},
		{"src/vendor/golang.org/x/net/http2/hpack", map[string]string{
			"Encoder.dynTab.table.ents": "entries", "Encoder.dynTab.table.evictCount": "evicted", "Encoder.dynTab.maxSize": "limit",
			"Encoder.w.()": "output", "HeaderField.Name": "name", "HeaderField.Sensitive": "sensitive",
		}},
	},
	"golang.org/x/net": {
		{"http2", map[string]string{
			"serverConn.conn": "x_server", "responseWriter.rws": "x_state", "responseWriterState.stream": "x_stream",
			"stream.id": "x_id", "ClientConn.fr": "x_framer", "ClientConn.bw": "x_writer", "ClientConn.henc": "x_encoder",
			"ClientConn.tconn": "x_conn", "HeadersFrameParam.BlockFragment": "x_block",
			"HeadersFrameParam.EndHeaders": "x_whole", "HeadersFrameParam.PadLength": "x_padding",
		}},
		{"http2/hpack", map[string]string{
			"Encoder.dynTab.table.ents": "x_entries", "Encoder.dynTab.table.evictCount": "x_evicted",
			"Encoder.dynTab.maxSize": "x_limit", "Encoder.w.()": "x_output", "HeaderField.Name": "x_name", "HeaderField.Sensitive": "x_sensitive",
		}},
	},
	"google.golang.org/grpc": {{"internal/transport", map[string]string{
		"http2Server.conn": "rpc_server", "http2Client.conn": "rpc_client", "Stream.id": "rpc_id",
		"Stream.method": "rpc_method", "Stream.ct.()": "rpc_of", "ClientStream.ct.()": "rpc_of",
		"ServerStream.Stream.*": "rpc_by_pointer", "ClientStream.Stream.*": "rpc_by_pointer",
		"loopyWriter.framer": "rpc_framer", "loopyWriter.hEnc": "rpc_encoder", "loopyWriter.conn": "rpc_conn",
		"framer.writer": "rpc_writer", "framer.fr": "rpc_frames", "bufWriter.buf": "rpc_buffer",
		"bufWriter.bufHandle": "rpc_buffer", "bufWriter.bufHandle.*": "rpc_by_handle", "bufWriter.offset": "rpc_buffered",
	}}},
	"github.com/gin-gonic/gin":    {{"", map[string]string{"nodeValue.fullPath": "path"}}},
	"github.com/go-chi/chi":       {{"", map[string]string{"Context.RoutePatterns": "patterns"}}},
	"github.com/go-chi/chi/v5":    {{"", map[string]string{"Context.RoutePatterns": "patterns"}}},
	"github.com/labstack/echo/v4": {{"", map[string]string{"context.path": "echo_path"}}},
	"github.com/gorilla/mux":      {{"", map[string]string{"Route.routeConf.regexp.path": "path", "routeRegexp.template": "template"}}},
}

// module -> version -> name -> bytes from the structure's beginning; a field that a version does not have is left out
type layouts map[string]map[string]map[string]int64

var files = token.NewFileSet()

// Packages of the standard library by their source; of others nothing is known, and a structure that depends on them is
// left out.
type packages struct {
	standard     types.Importer
	module, root string // packages of the module itself are read, too
	known        map[string]*types.Package
}

func (p packages) Import(path string) (*types.Package, error) {
	if path == "unsafe" {
		return types.Unsafe, nil
	}
	if p.module == toolchain {
		return p.own(path), nil
	}
	if first, _, _ := strings.Cut(path, "/"); !strings.Contains(first, ".") && path != "C" {
		return p.standard.Import(path)
	}
	found := p.known[path]
	if found == nil {
		found = types.NewPackage(path, filepath.Base(path))
		p.known[path] = found
		if folder, ok := strings.CutPrefix(path, p.module+"/"); ok {
			found = read(filepath.Join(p.root, folder), path)
			p.known[path] = found
		}
		found.MarkComplete()
	}
	return found, nil
}

// A package of the standard library of that Go which is asked.
func (p packages) own(path string) *types.Package {
	found := p.known[path]
	if found == nil {
		folder := filepath.Join(p.root, "src", path)
		if _, err := os.Stat(folder); err != nil {
			folder = filepath.Join(p.root, "src", "vendor", path)
		}
		found = read(folder, path)
		found.MarkComplete()
		p.known[path] = found
	}
	return found
}

var imported = packages{standard: importer.ForCompiler(files, "source", nil)}

// From now on sources of this module are read.
func use(module, root string) {
	imported.module, imported.root, imported.known = module, root, map[string]*types.Package{}
}

var sizes = types.SizesFor("gc", "amd64")

func read(folder, path string) *types.Package {
	entries, _ := os.ReadDir(folder)
	var parsed []*ast.File
	for _, entry := range entries {
		name := entry.Name()
		if fits, err := build.Default.MatchFile(folder, name); !fits || err != nil || strings.HasSuffix(name, "_test.go") {
			continue
		}
		if file, err := parser.ParseFile(files, filepath.Join(folder, name), nil, parser.SkipObjectResolution); err == nil {
			ast.Inspect(file, plainPointers)
			parsed = append(parsed, file)
		}
	}
	config := types.Config{
		Importer: imported, Error: func(error) {}, IgnoreFuncBodies: true, FakeImportC: true, Sizes: sizes,
	}
	checked, _ := config.Check(path, files, parsed, nil)
	return checked
}

// A field that points to something of another package is as large, also if that is not at hand.
func plainPointers(node ast.Node) bool {
	if field, ok := node.(*ast.Field); ok && len(field.Names) > 0 {
		if pointer, ok := field.Type.(*ast.StarExpr); ok {
			if _, ok := pointer.X.(*ast.SelectorExpr); ok {
				field.Type = &ast.StarExpr{X: ast.NewIdent("byte")}
			}
		}
	}
	return true
}

func answer(folder string, fields map[string]string, found map[string]int64) {
	if _, err := os.Stat(folder); err != nil {
		return
	}
	checked := read(folder, "it")
	for field, name := range fields {
		steps := strings.Split(field, ".")
		if object := checked.Scope().Lookup(steps[0]); object != nil {
			if offset, ok := place(object.Type(), steps[1:]); ok {
				found[name] = offset
			}
		}
	}
}

// Bytes from the beginning of the type to the field at the end of these steps.
func place(kind types.Type, steps []string) (int64, bool) {
	if len(steps) == 0 {
		return 0, true
	}
	switch _, pointer := kind.Underlying().(*types.Pointer); {
	case steps[0] == "()" && types.IsInterface(kind):
		return sizes.Sizeof(types.Typ[types.UnsafePointer]), true
	case steps[0] == "()" && pointer:
		return 0, true
	case steps[0] == "*" && pointer:
		return 1, true
	}
	structure, ok := kind.Underlying().(*types.Struct)
	if !ok {
		return 0, false
	}
	var fields []*types.Var
	for i := range structure.NumFields() {
		field := structure.Field(i)
		fields = append(fields, field)
		if field.Name() == steps[0] {
			rest, ok := place(field.Type(), steps[1:])
			return sizes.Offsetsof(fields)[i] + rest, ok
		}
		if !known(field.Type(), 0) {
			return 0, false
		}
	}
	return 0, false
}

// Is it known how large the type is?
func known(kind types.Type, depth int) bool {
	switch kind := kind.Underlying().(type) {
	case *types.Basic:
		return kind.Kind() != types.Invalid
	case *types.Array:
		return known(kind.Elem(), depth+1)
	case *types.Struct:
		for i := range kind.NumFields() {
			if depth > 20 || !known(kind.Field(i).Type(), depth+1) {
				return false
			}
		}
	}
	return true
}

func run(arguments ...string) []byte {
	command := exec.Command("go", arguments...)
	command.Stderr = os.Stderr
	command.Dir = os.TempDir() // outside of any module
	output, err := command.Output()
	if err != nil {
		log.Fatalf("go %s: %v", strings.Join(arguments, " "), err)
	}
	return output
}

func look(module, version string) map[string]int64 {
	var fetched struct{ Dir string }
	if module == toolchain {
		version = "v0.0.1-go" + version + system
		cache, err := os.MkdirTemp("", "go-layouts-")
		if err != nil {
			log.Fatal(err)
		}
		defer os.RemoveAll(cache) // a quarter of a gigabyte
		os.Setenv("GOMODCACHE", cache)
		os.Setenv("GOFLAGS", "-modcacherw")
		defer os.Unsetenv("GOMODCACHE")
	}
	if err := json.Unmarshal(run("mod", "download", "-json", module+"@"+version), &fetched); err != nil {
		log.Fatal(err)
	}
	use(module, fetched.Dir)
	found := map[string]int64{}
	for _, asked := range modules[module] {
		answer(filepath.Join(fetched.Dir, asked.folder), asked.fields, found)
	}
	return found
}

// The oldest version that is looked at, where older ones are many and hardly met any more.
var first = map[string]string{"google.golang.org/grpc": "v1.50.0", "golang.org/x/net": "v0.8.0", "github.com/labstack/echo/v4": "v4.6.0"}

// A number that orders versions.
func semver(version string) int {
	var major, minor, patch int
	fmt.Sscanf(version, "v%d.%d.%d", &major, &minor, &patch)
	return (major*10000+minor)*10000 + patch
}

func versions(module string) []string {
	listed := strings.Fields(string(run("list", "-m", "-versions", module)))[1:]
	if module != toolchain {
		return slices.DeleteFunc(listed, func(one string) bool {
			return semver(one) < semver(first[module]) || strings.HasSuffix(one, "-dev")
		})
	}
	last := map[string]string{} // by "1.26"
	for _, one := range listed {
		number, ok := strings.CutPrefix(strings.TrimSuffix(one, system), "v0.0.1-go")
		if ok && strings.HasSuffix(one, system) && !strings.ContainsAny(number, "rb") {
			minor := strings.Join(strings.Split(number, ".")[:2], ".")
			if version.Compare("go"+number, oldest) >= 0 && version.Compare("go"+number, "go"+last[minor]) > 0 {
				last[minor] = number
			}
		}
	}
	return slices.Sorted(maps.Values(last))
}

func main() {
	check := flag.String("check", "", "MODULE@VERSION")
	flag.Parse()
	written := layouts{}
	if data, err := os.ReadFile(table); err == nil {
		if err := json.Unmarshal(data, &written); err != nil {
			log.Fatalf("%s: %v", table, err)
		}
	}
	if module, version, ok := strings.Cut(*check, "@"); ok {
		if found := look(module, version); !maps.Equal(found, written[module][version]) {
			log.Fatalf("%s: is %v, written is %v", *check, found, written[module][version])
		}
		fmt.Println("right")
		return
	}
	for _, module := range slices.Sorted(maps.Keys(modules)) {
		if written[module] == nil {
			written[module] = map[string]map[string]int64{}
		}
		for _, version := range versions(module) {
			if written[module][version] == nil {
				written[module][version] = look(module, version)
			}
		}
	}
	data, err := json.MarshalIndent(written, "", " ")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(table, append(data, '\n'), 0o644); err != nil {
		log.Fatal(err)
	}
}
