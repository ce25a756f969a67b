package main

import (
	"testing"

	"github.com/spf13/pflag"

	"magent/bench/compare"
	"magent/server/config"
)

// The bench may import nothing of the proxy, so that its settings are flags of
// the proxy is checked here.
func TestBenchSettingsAreFlags(t *testing.T) {
	for _, w := range compare.Workloads() {
		for _, s := range append([]compare.Setting{w.Ours}, w.Against...) {
			var f config.Flags
			fs := pflag.NewFlagSet(w.Name, pflag.ContinueOnError)
			f.Bind(fs)
			err := fs.Parse(append([]string{"-s", "127.0.0.1:1", "-b", "127.0.0.1:2"}, s.Flags...))
			if err == nil {
				_, err = f.Config()
			}
			if err != nil {
				t.Errorf("%s, %s: %v", w.Name, s, err)
			}
		}
	}
}
