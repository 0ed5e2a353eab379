//go:build standard

package main

func serve(_, _ string) { panic("built without a server") }
