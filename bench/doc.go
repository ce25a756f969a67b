// Package bench makes load, checks every answer, and says what it cost.
//
// Run drives one target in a closed loop and reports rate, latency and CPU per
// request of the processes named to it. Compare runs our proxy and its rivals,
// or several settings of our own, in interleaved rounds and judges the ratios.
// Main is the command over both.
//
//	Main → Compare → Run → worker (epoll) → scanner → space (what a key must hold)
//	           ↘ rivals (start, pin, stop)    ↘ meter (/proc, CPU clocks)
//
// Each worker is one goroutine locked to its thread; it owns its connections,
// its histogram and its counters, and shares only the phase word. Everything
// else runs on the caller's goroutine.
//
// The package imports x/sys, hdrhistogram-go and pflag, and nothing of the
// proxy: a judge must not share the bugs of the judged.
package bench
