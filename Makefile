# `make` alone lists what there is to make.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -o pipefail -ec
# Debian keeps nutcracker and keepalived where a user's PATH does not look.
export PATH := $(PATH):/usr/sbin:/sbin

PREFIX   ?= /usr/local
FUZZTIME ?= 30s
DEMO     ?= --kill-every 10s
BENCH    ?=
DRILL    ?=
REFILL   ?=
SOAK     ?= 10m
PATIENCE ?= 20m
SEED     ?= $(shell date +%s)
ROUNDS   ?= 3
BASE     ?=
BENCHES  ?=
COUNT    ?= 6
# Packages with nothing for the race detector: one goroutine, or other programs, do the work.
RACELESS := ^magent/(tools|codec|bench/(compare|failover|refill|keys|process|stats)|upstream/(converge|fleet|latency|repair|route|token)|server/(config|e2e/(address|clients|machine)))(/|$$)
BENCHTIME ?= 100ms
VERSION  := $(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null | sed 's/^v//')
COMMIT   := $(shell git describe --always --dirty --exclude '*' 2>/dev/null)
LDFLAGS  := $(if $(VERSION),-X main.version=$(VERSION)) $(if $(COMMIT),-X main.commit=$(COMMIT))

# command:package of what the tests run beside Go; a missing one fails its tests.
TOOLS := memcached:memcached nutcracker:nutcracker memccapable:libmemcached-tools \
         ip:iproute2 keepalived:keepalived monit:monit strace:strace git:git \
         systemd-analyze:systemd logrotate:logrotate promtool:prometheus
TOOLS += saslpasswd2:sasl2-bin php:php-cli node:nodejs npm:npm chromium:chromium

# Client libraries that have no command, and npm's, of which bin/clients/memjs says the version.
LIBRARIES := libsasl2-modules python3-pymemcache python3-pylibmc php-memcached
MEMJS     := 1.3.2

.PHONY: help run build test check lint fuzz bench report perf refill benchstat e2e clients soak faults drill screenshot install deps clean

help: ## this list
	@echo "magent: a memcached proxy. 'make run' shows it at work, README.md says the rest."
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## magent demo: two built-in nodes and a proxy on 127.0.0.1:12000 (DEMO= for no kills)
	bin/magent demo $(DEMO)

build: ## bin/magent
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/magent ./cmd/magent

# server/e2e takes longest, and so it comes first: the others run beside it. With -race
# every process, and the tests start many, would sleep for a second before it ends.
test: deps check ## everything CI runs: deps, check, every test, and those of goroutines again with -race
	go test -timeout $(PATIENCE) ./server/e2e ./...
	GORACE=atexit_sleep_ms=10 go test -timeout $(PATIENCE) -short -race ./server/e2e $$(go list ./... | grep -vE '$(RACELESS)')

check: ## gofmt, vet, staticcheck, the repository's rules
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "run gofmt -w on:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go test ./tools/lint

lint: ## the repository's rules alone: imports, sizes, comments
	go test -count=1 ./tools/lint

fuzz: ## every fuzz target for 30s each (FUZZTIME=10m for a night)
	@go test -list '^Fuzz' ./... | \
	awk '/^Fuzz/ { name[n++] = $$1 } /^ok/ { for (i = 0; i < n; i++) print $$2, name[i]; n = 0 }' | \
	while read -r package name; do \
		echo "== $$package $$name"; \
		go test -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) "$$package"; \
	done

bench: deps build ## CPU per request beside nutcracker and memcached itself (BENCH='--rounds 3', magent help bench)
	bin/magent bench compare $(BENCH)

report: build ## tables and plots of BENCHMARKS.md from the results it names (RESULTS=dir: from those)
	bin/magent bench report $(if $(RESULTS),--results $(RESULTS))

perf: deps build ## fail if a ratio that was promised is missed by more than 15 %: six minutes
	bin/magent bench compare --gate 0.15 --rounds 5 --out bench/results/tmp

refill: deps build ## how fast an empty node is refilled, and what clients notice; fails beyond a bound: four minutes
	bin/magent bench refill --results bench/results $(REFILL)

benchstat: ## Go benchmarks beside the last release's (BASE=commit BENCHES='./server Request' COUNT=6 BENCHTIME=100ms)
	@BASE='$(BASE)' BENCHES='$(value BENCHES)' COUNT='$(COUNT)' BENCHTIME='$(BENCHTIME)' tools/benchstat/benchstat.sh

e2e: deps ## the proxy before real memcacheds, at length: transcripts, differential, failover
	go test -count=1 -timeout $(PATIENCE) ./server/e2e -long
	go test -count=1 -timeout $(PATIENCE) ./server/e2e/harness ./server/e2e/model ./cmd/...

clients: deps ## client libraries at work while nodes are killed and come back, at length, with their versions
	go test -count=1 -timeout $(PATIENCE) -v ./server/e2e/clients -long

soak: deps ## strike nodes at random for 10m and check what clients saw (SOAK=1h SEED=7)
	go test -count=1 -timeout 0 -v -run TestOneReplicaIsEnough ./server/e2e -seed $(SEED) -soak $(SOAK)

faults: deps ## what clients notice of each fault, at full load, as a table (ROUNDS=3)
	go test -count=1 -timeout 0 -v -run TestNobodyNotices ./server/e2e -rounds $(ROUNDS)

drill: deps build ## what clients notice of each fault, by magent failover: five minutes (ROUNDS=3, DRILL='--scenario kill,stop')
	bin/magent failover --scenario all --rounds $(ROUNDS) --results bench/results \
		--rate 16000 --clients 16 --ratio 1:9 --before 1 --down 2 --back 5 $(DRILL)

screenshot: deps ## server/admin/page.png, the status page while a node is refilled: a minute
	go test -count=1 -run 'TestStatusPage$$' ./cmd/magent -picture $(CURDIR)/server/admin/page.png

install: build ## bin/magent to PREFIX/bin (PREFIX=/usr/local, DESTDIR for packagers)
	install -D -m 0755 bin/magent $(DESTDIR)$(PREFIX)/bin/magent

deps: ## install Debian's memcached, nutcracker and the like where they are missing
	@missing=; for tool in $(TOOLS); do \
		command -v "$${tool%%:*}" >/dev/null || missing="$$missing $${tool##*:}"; \
	done; \
	for library in $(LIBRARIES); do \
		[ "$$(dpkg-query -W -f '$${db:Status-Status}' $$library 2>/dev/null)" = installed ] || missing="$$missing $$library"; \
	done; \
	if [ -n "$$missing" ]; then \
		sudo=; [ "$$(id -u)" = 0 ] || sudo=sudo; \
		echo "installing$$missing"; \
		$$sudo apt-get -q update; \
		$$sudo env DEBIAN_FRONTEND=noninteractive apt-get -qy --no-install-recommends install $$missing; \
	fi
	@[ "$$(cat bin/clients/memjs 2>/dev/null)" = $(MEMJS) ] || { \
		npm install --silent --no-audit --no-fund --no-save --prefix bin/clients memjs@$(MEMJS); \
		echo $(MEMJS) > bin/clients/memjs; \
	}

clean: ## remove bin
	rm -rf bin
