// Package token names the versions of items: what a client is told for one
// (Encode, Decode), the versions that proxies make themselves (Source), and the
// node versions that decide whether they may (Version).
//
// Everything here is a value without locks; a Source belongs to one event loop.
// It imports std only.
package token
