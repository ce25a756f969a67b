// Package file is the second front of a configuration: a file in YAML. A field of the file
// has the name, and takes the value, of the flag that says the same on a command line, so that
// neither can say what the other cannot; what a command line has no words for, several listeners
// and pools, the file says in its own:
//
//	listen:                        # config.Listen each
//	  - tcp: 0.0.0.0:11211
//	    routes: {"session:": web}  # what begins with this goes to that pool
//	    default: main              # all else; the first pool if nothing is said
//	pools:                         # config.Pool each, by name
//	  main:
//	    copies:
//	      - [10.0.0.1:11211, 10.0.0.2:11211 name]
//	      - [{address: 10.0.1.1:11211, name: big, weight: 3}]
//	    timeout: 100ms
//	user: nobody
//
// A file is read into a tree first, of which every node knows its line, and the tree is walked:
// so all faults are found at once. It does no I/O and runs on any goroutine. It imports std, the
// YAML library, pflag and server/config.
package file
