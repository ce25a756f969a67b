// Package token names the versions of items: what a client is told for one
// (Token), the versions that proxies make themselves (Source), and the node
// versions that decide which of the two is used (Version).
//
// Everything here is a value without locks; a Source belongs to one event loop.
// It imports std only.
package token
