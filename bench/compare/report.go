package compare

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"magent/bench/meter"
)

// A document has blocks that the tool writes, each between two marks on lines of their
// own; the directory is a comparison's, relative to the document:
//
//	<!-- bench:begin NAME RESULTS-DIR -->
//	<!-- bench:end -->
var beginMark = regexp.MustCompile(`^<!-- bench:begin (\S+) (\S+) -->$`)

const endMark = "<!-- bench:end -->"

// block is one kind of what the tool writes: the rows it is of, and its text. A plot is
// a file as well: name → content.
type block struct {
	of    func(*Row) bool
	write func(dir string, r *Result, rows []Row) (text string, files map[string][]byte, err error)
}

const hostName = "host"

// blocks are by name. Those of rivals have what stands against ours; those of settings
// have what ours costs when it is set up in other ways, and those of readers what it costs
// when it is looked at.
var blocks = map[string]block{
	hostName:         {anyRow, hostBlock},
	"rivals":         {amongRivals, ratioBlock},
	"rivals-sides":   {amongRivals, sideBlock},
	"rivals-plots":   {amongRivals, plotBlock("rivals")},
	"readers":        {amongReaders, ratioBlock},
	"readers-sides":  {amongReaders, sideBlock},
	"settings":       {amongSettings, ratioBlock},
	"settings-sides": {amongSettings, sideBlock},
	"settings-plots": {amongSettings, plotBlock("settings")},
}

func anyRow(*Row) bool { return true }

// amongSettings knows a side that is set up by its name, as contestants gives it.
func amongSettings(r *Row) bool { return strings.Contains(r.Ours, ", ") && !amongReaders(r) }

// amongReaders knows a side that is read by the end of that.
func amongReaders(r *Row) bool { return strings.HasSuffix(r.Ours, eachSecond) }

func amongRivals(r *Row) bool { return !amongSettings(r) && !amongReaders(r) }

// Report writes the blocks of the document at path, and their plots into the directories
// of their results. Where results is not empty, blocks of other results are of those from
// now on, if they have all the rows that the block shows; a host goes with the block before
// it. moved names these, and it is an error if there is none. What is as it should be is not written.
func Report(path, results string) (moved []string, err error) {
	doc, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("compare: %w", err)
	}
	f := newFiller(filepath.Dir(path))
	if results != "" {
		if f.newest, err = relative(f.base, results); err != nil {
			return nil, err
		}
	}
	text, err := f.fill(string(doc))
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, path)
	}
	if f.newest != "" && !strings.Contains(text, " "+f.newest+" -->") {
		return nil, fmt.Errorf("compare: no block of %s shows only what %s has", path, results)
	}
	f.files[filepath.Base(path)] = []byte(text)
	for _, name := range slices.Sorted(maps.Keys(f.files)) {
		file := filepath.Join(f.base, name)
		if old, readErr := os.ReadFile(file); readErr == nil && bytes.Equal(old, f.files[name]) {
			continue
		}
		err = errors.Join(err, os.WriteFile(file, f.files[name], 0o644))
	}
	return f.moved, err
}

// relative is path as seen from base, with slashes.
func relative(base, path string) (string, error) {
	absBase, err := filepath.Abs(base)
	if err != nil {
		return "", fmt.Errorf("compare: %w", err)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("compare: %w", err)
	}
	rel, err := filepath.Rel(absBase, abs)
	if err != nil {
		return "", fmt.Errorf("compare: %w", err)
	}
	return filepath.ToSlash(rel), nil
}

// filler writes the blocks of one document. Paths are relative to base.
type filler struct {
	base   string
	newest string // results that blocks move to; empty: none do
	// wasOf and isOf are the results of the block before, as the document had them and
	// as they are now.
	wasOf, isOf string
	read        map[string]*Result
	files       map[string][]byte // what the blocks want beside the document
	moved       []string
}

func newFiller(base string) *filler {
	return &filler{base: base, read: make(map[string]*Result), files: make(map[string][]byte)}
}

// fill is doc with its blocks written anew.
func (f *filler) fill(doc string) (string, error) {
	var out strings.Builder
	inside := ""
	for line := range strings.Lines(doc) {
		mark := strings.TrimRight(line, "\r\n")
		begin := beginMark.FindStringSubmatch(mark)
		switch {
		case inside != "" && begin != nil:
			return "", fmt.Errorf("compare: block %s has no end before %s begins", inside, begin[1])
		case begin != nil:
			inside = begin[1]
			text, err := f.block(begin[1], begin[2])
			if err != nil {
				return "", fmt.Errorf("compare: block %s: %w", inside, err)
			}
			out.WriteString(text)
		case mark == endMark:
			if inside == "" {
				return "", errors.New("compare: a block ends that did not begin")
			}
			inside = ""
			out.WriteString(line)
		case inside == "" && strings.HasPrefix(mark, "<!-- bench:"):
			return "", fmt.Errorf("compare: %q is no mark of a block", mark)
		case inside == "":
			out.WriteString(line)
		}
	}
	if inside != "" {
		return "", fmt.Errorf("compare: block %s has no end", inside)
	}
	return out.String(), nil
}

// block is the mark that begins the block, and its text.
func (f *filler) block(name, dir string) (string, error) {
	if drillBlocks[name] != nil {
		return f.drills(name, dir)
	}
	if refillBlocks[name] != nil {
		return f.refills(name, dir)
	}
	b, ok := blocks[name]
	if !ok {
		known := slices.AppendSeq(slices.Collect(maps.Keys(blocks)), maps.Keys(drillBlocks))
		known = slices.AppendSeq(known, maps.Keys(refillBlocks))
		return "", fmt.Errorf("there are %s", strings.Join(slices.Sorted(slices.Values(known)), ", "))
	}
	was := dir
	res, err := f.result(dir)
	if err != nil {
		return "", err
	}
	if f.newer(dir, rawFile) {
		newest, err := f.result(f.newest)
		if err != nil {
			return "", err
		}
		moves := covers(b.rows(newest), b.rows(res))
		if name == hostName && f.wasOf == dir { // it tells of the block before it
			moves = f.isOf == f.newest
		}
		if moves {
			dir, res = f.newest, newest
			f.moved = append(f.moved, name)
		}
	}
	f.wasOf, f.isOf = was, dir
	rows := b.rows(res)
	if len(rows) == 0 {
		return "", fmt.Errorf("nothing in %s is of it", dir)
	}
	text, files, err := b.write(dir, res, rows)
	if err != nil {
		return "", err
	}
	return f.begun(name, dir, text, files), nil
}

// newer says whether a block of dir may move: there are other results, with such a file.
func (f *filler) newer(dir, raw string) bool {
	if f.newest == "" || f.newest == dir {
		return false
	}
	_, err := os.Stat(filepath.Join(f.base, f.newest, raw))
	return err == nil
}

// begun is the mark of a block, and its text; its files are kept.
func (f *filler) begun(name, dir, text string, files map[string][]byte) string {
	for file, content := range files {
		f.files[filepath.Join(dir, file)] = content
	}
	return fmt.Sprintf("<!-- bench:begin %s %s -->\n\n%s\n", name, dir, text)
}

// result reads the raw file in dir, once.
func (f *filler) result(dir string) (*Result, error) {
	if r, ok := f.read[dir]; ok {
		return r, nil
	}
	r, err := Load(filepath.Join(f.base, dir))
	if err == nil {
		f.read[dir] = r
	}
	return r, err
}

func (b block) rows(r *Result) (rows []Row) {
	for i := range r.Rows {
		if b.of(&r.Rows[i]) {
			rows = append(rows, r.Rows[i])
		}
	}
	return rows
}

// covers says whether rows have a row for each of old's: the same sides of the same
// workload.
func covers(rows, old []Row) bool {
	for _, o := range old {
		if !slices.ContainsFunc(rows, func(r Row) bool {
			return r.Workload == o.Workload && r.Ours == o.Ours && r.Theirs == o.Theirs
		}) {
			return false
		}
	}
	return true
}

// titled writes the name of a workload where it is first seen with what it is.
func titled() func(string) string {
	seen := ""
	return func(workload string) string {
		name := "`" + workload + "`"
		if seen == workload {
			return name
		}
		seen = workload
		for _, w := range Workloads() {
			if w.Name == workload {
				return name + ": " + w.Title
			}
		}
		return name
	}
}

func ratioBlock(_ string, _ *Result, rows []Row) (string, map[string][]byte, error) {
	return ratioTable(rows, titled()).markdown(), nil, nil
}

func sideBlock(_ string, _ *Result, rows []Row) (string, map[string][]byte, error) {
	return sideTable(Sides(rows), titled()).markdown(), nil, nil
}

// plotBlock draws for files of these names before the dash.
func plotBlock(prefix string) func(string, *Result, []Row) (string, map[string][]byte, error) {
	return func(dir string, _ *Result, rows []Row) (string, map[string][]byte, error) {
		text, files := "", make(map[string][]byte)
		for _, c := range charts {
			svg, err := c.svg(Sides(rows))
			if err != nil {
				return "", nil, err
			}
			file := prefix + "-" + c.name + ".svg"
			files[file] = svg
			text += fmt.Sprintf("![%s](%s/%s)\n", c.title, dir, file)
		}
		return text, files, nil
	}
}

// hostBlock says where and how the results were made.
func hostBlock(dir string, r *Result, rows []Row) (string, map[string][]byte, error) {
	var b strings.Builder
	provenance(&b, dir, rawFile, r.Provenance, r.commandLine())
	if r.ProxyCPUs+r.LoadCPUs != "" {
		item(&b, "Pinned: each proxy to CPU %s, load and nodes to CPU %s.", orAll(r.ProxyCPUs), orAll(r.LoadCPUs))
	}
	rounds, discarded, counted := len(rows[0].Pairs), 0, ""
	for i, row := range rows {
		rounds = min(rounds, len(row.Pairs))
		if i == 0 || row.Workload != counted { // a workload's rows have its rounds in common
			counted = row.Workload
			discarded += row.Discarded
		}
	}
	item(&b, "%d rounds; %d were noisier than allowed and run again.", rounds, discarded)
	if r.Error != "" {
		item(&b, "**Not complete**: %s", strings.ReplaceAll(r.Error, "\n", "; "))
	}
	return b.String(), nil, nil
}

func item(b *strings.Builder, format string, args ...any) { fmt.Fprintf(b, "* "+format+"\n", args...) }

// provenance writes where and how the results in dir were made, of which raw has all.
func provenance(b *strings.Builder, dir, raw string, p meter.Provenance, command string) {
	item(b, "Raw: `%s`, of %s; `%s` has every run.", dir, p.Date.Format(time.DateOnly), raw)
	item(b, "Command, at commit %s: `%s`", p.Commit, command)
	virtual := ""
	if p.Virtual {
		virtual = ", a virtual machine"
	}
	item(b, "Host: %s, %d CPUs%s; Linux %s.", p.CPU, p.Cores, virtual, p.Kernel)
	var versions []string
	for _, name := range slices.Sorted(maps.Keys(p.Versions)) {
		v := strings.TrimPrefix(p.Versions[name], "This is ")
		if !strings.HasPrefix(v, name) {
			v = name + ": " + v
		}
		versions = append(versions, v)
	}
	item(b, "Versions: %s; load by %s.", strings.Join(versions, "; "), p.Go)
}

func orAll(cpus string) string {
	if cpus == "" {
		return "any"
	}
	return cpus
}

// commandLine is the command as it was typed. Of old the file had the flags alone, and
// the path of the binary under test first, which the program itself put there.
func (r *Result) commandLine() string {
	words := r.Command
	if len(words) > 0 && strings.HasPrefix(words[0], "--") {
		if len(words) > 1 && words[0] == "--magent" {
			words = words[2:]
		}
		words = append([]string{"magent", "bench"}, words...)
	}
	return commandLine(words)
}

// commandLine is words as a shell takes them.
func commandLine(words []string) string {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = w
		if !plainWord.MatchString(w) {
			quoted[i] = "'" + strings.ReplaceAll(w, "'", `'\''`) + "'"
		}
	}
	return strings.Join(quoted, " ")
}

// plainWord is what a shell takes as it stands.
var plainWord = regexp.MustCompile(`^[\w./:=,+@%-]+$`)
