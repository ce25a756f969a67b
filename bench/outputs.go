package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// outputs are where a report goes. They are opened before the work begins: whoever
// cannot be written to is named at once. text is never nil, json if it was not asked for.
type outputs struct {
	text, json io.Writer
	files      []*os.File
	err        error // of opening
}

// newOutputs opens what --json-out-file names; the text goes to out.
func newOutputs(out io.Writer, jsonPath string) *outputs {
	o := &outputs{text: out}
	switch jsonPath {
	case "":
	case "-":
		o.text, o.json = io.Discard, out
	default:
		o.json = o.create("json-out-file", jsonPath)
	}
	return o
}

// create opens the file that a flag names.
func (o *outputs) create(flag, path string) io.Writer {
	file, err := os.Create(path)
	if err != nil {
		o.err = errors.Join(o.err, fmt.Errorf("--%s: %w", flag, err))
		return io.Discard
	}
	o.files = append(o.files, file)
	return file
}

// write writes report as JSON, if that was asked for.
func (o *outputs) write(report any) error {
	if o.json == nil {
		return nil
	}
	e := json.NewEncoder(o.json)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(report)
}

func (o *outputs) close() error {
	var errs []error
	for _, file := range o.files {
		errs = append(errs, file.Close())
	}
	return errors.Join(errs...)
}
