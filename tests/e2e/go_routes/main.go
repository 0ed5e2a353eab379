// Servers on five routers of Go; each answers with the template of the route that it has taken, as the router has it.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	"github.com/gorilla/mux"
	"github.com/labstack/echo/v4"
)

func serveMux() http.Handler {
	own := http.NewServeMux()
	tell := func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Pattern) }
	for _, pattern := range []string{
		"GET /users/{id}", "POST /users/{id}", "/files/{rest...}", "GET /exact/{$}", "/prefix/",
		"GET localhost/host/{id}", "GET /long/{a_name_that_is_longer_than_most_names_of_variables_are}/end",
	} {
		own.HandleFunc(pattern, tell)
	}
	// what is written here goes out before the handler has ended
	own.HandleFunc("GET /large/{id}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100000")
		w.Header().Set("Route", r.Pattern)
		w.Write(make([]byte, 100000))
	})
	return own
}

func chiRouter() http.Handler {
	own := chi.NewRouter()
	tell := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, chi.RouteContext(r.Context()).RoutePattern())
	}
	own.Get("/users/{id}", tell)
	own.Get("/files/*", tell)
	own.Route("/tenants/{tenant}", func(inner chi.Router) {
		inner.Get("/items/{item:[0-9]+}", tell)
		inner.Route("/deep", func(inner chi.Router) { inner.Get("/{x}", tell) })
	})
	mounted := chi.NewRouter()
	mounted.Get("/", tell)
	own.Mount("/mounted", mounted)
	return own
}

func ginEngine() http.Handler {
	gin.SetMode(gin.ReleaseMode)
	own := gin.New()
	tell := func(c *gin.Context) { c.String(http.StatusOK, c.FullPath()) }
	own.GET("/users/:id", tell)
	own.POST("/users/:id", tell)
	own.GET("/files/*rest", tell)
	own.Group("/tenants/:tenant").GET("/items/:item", tell)
	own.UseH2C = true // by golang.org/x/net
	return own.Handler()
}

func gorillaRouter() http.Handler {
	own := mux.NewRouter()
	tell := func(w http.ResponseWriter, r *http.Request) {
		template, _ := mux.CurrentRoute(r).GetPathTemplate()
		fmt.Fprint(w, template)
	}
	own.HandleFunc("/users/{id:[0-9]+}", tell)
	own.PathPrefix("/tenants/{tenant}").Subrouter().HandleFunc("/items/{item}", tell)
	return own
}

func echoRouter(before ...echo.MiddlewareFunc) func() http.Handler {
	return func() http.Handler {
		own := echo.New()
		own.Pre(before...)
		tell := func(c echo.Context) error { return c.String(http.StatusOK, c.Path()) }
		own.GET("/users/:id", tell)
		own.POST("/users/:id", tell)
		own.GET("/files/*", tell)
		own.Group("/tenants/:tenant").GET("/items/:item", tell)
		return own
	}
}

func main() {
	nothing := func(next echo.HandlerFunc) echo.HandlerFunc { return next }
	routers := []func() http.Handler{
		serveMux, chiRouter, ginEngine, gorillaRouter, echoRouter(), echoRouter(nothing),
	}
	for i, port := range os.Args[1:] {
		listener, err := net.Listen("tcp", "127.0.0.1:"+port)
		if err != nil {
			panic(err)
		}
		go http.Serve(listener, routers[i]())
	}
	fmt.Println("up")
	select {}
}
