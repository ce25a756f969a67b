package probe

import "context"

// Ask asks the node what this package knows nothing of: it sends request, which may be
// several commands, and hands the answer to each line by line, without their ends. each
// returns ok false of a line that does not answer what was asked, which is an error,
// and last true of the line that ends the answer. what names the request in errors.
//
// All of an answer comes over one connection, and so from one process. Like the other
// calls Ask makes up for a connection that was closed since the call before: request
// may then have been carried out twice.
func (p *Prober) Ask(ctx context.Context, what, request string, each func(line []byte) (last, ok bool)) error {
	_, err := p.first(ctx, what, request, each)
	return err
}
