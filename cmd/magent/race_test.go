//go:build race

package main

// raceFlag makes the binary under test as watchful as the tests.
const raceFlag = "-race=true"
