
"use strict";
(() => {
	// How often it is asked, and for how long back differences are taken, in ms.
	const PERIOD = 1000, RATES = 3000, SHARES = 10000, KEPT = 60000;
	const TIMEOUT = 5000, MOST_EVENTS = 256, KEY = "magent-token";
	// What a state looks like: a sign and a word beside the colour.
	const STATES = {up: ["●", "good"], slow: ["◐", "fair"], warming: ["◔", "fair"], stale: ["◌", "fair"], down: ["✕", "bad"]};

	const $ = (id) => document.getElementById(id);
	let samples = []; // overviews of one process, oldest first, each with what it counts by name
	let started = "", shape = "", lastEvent = 0, events = [], timer = 0, asking = false;

	// make builds an element. Text only ever becomes a text node.
	function make(tag, attributes, ...inside) {
		const e = document.createElement(tag);
		for (const [name, value] of Object.entries(attributes || {})) e.setAttribute(name, value);
		e.append(...inside);
		return e;
	}
	// say puts text into e if it is another than before, so that a selection stays.
	function say(e, text) { if (e.textContent !== text) e.textContent = text; }
	function look(e, kind) { if (e.className !== kind) e.className = kind; }

	// Numbers as people read them.
	function short(n) {
		if (n === null || !isFinite(n)) return "–";
		if (n >= 1e9) return (n / 1e9).toPrecision(3) + " G";
		if (n >= 1e6) return (n / 1e6).toPrecision(3) + " M";
		if (n >= 1e4) return (n / 1e3).toPrecision(3) + " k";
		return n >= 10 || Number.isInteger(n) ? String(Math.round(n)) : n.toFixed(1);
	}
	const rate = (n) => n === null ? "–" : short(n) + "/s";
	const bytes = (n) => n === null ? "–" : short(n) + (n < 1e4 ? " B/s" : "B/s");
	const percent = (n) => n === null ? "–" : (n === 1 ? "100" : (100 * n).toFixed(n > 0.99 ? 3 : 1)) + " %";
	function time(seconds) {
		if (seconds === null) return "–";
		if (seconds >= 1) return seconds.toPrecision(3) + " s";
		if (seconds >= 1e-3) return (seconds * 1e3).toPrecision(3) + " ms";
		return (seconds * 1e6).toPrecision(3) + " µs";
	}
	// age is seconds in their two largest units.
	function age(seconds) {
		const s = Math.max(0, Math.round(seconds));
		if (s >= 86400) return Math.floor(s / 86400) + "d" + Math.floor(s % 86400 / 3600) + "h";
		if (s >= 3600) return Math.floor(s / 3600) + "h" + Math.floor(s % 3600 / 60) + "m";
		if (s >= 60) return Math.floor(s / 60) + "m" + s % 60 + "s";
		return s + "s";
	}

	// counted gives what an overview counts, by name.
	function counted(o) {
		const all = new Map([["clients", o.clients]]);
		for (const p of o.pools) {
			all.set("pool " + p.name, p);
			for (const c of p.copies) for (const n of c.nodes) all.set(nodeName(p, c, n), n);
		}
		return all;
	}
	const nodeName = (p, c, n) => JSON.stringify([p.name, c.number, n.name]);

	// past is the sample from which differences over ms are taken; null if there is none yet.
	function past(ms) {
		const now = samples[samples.length - 1];
		for (const s of samples) if (now.at - s.at <= ms + PERIOD / 2 && s !== now) return s;
		return null;
	}
	// grown is by how much get of what is called name has grown over ms, and in how many
	// seconds; null if it is not known.
	function grown(ms, name, get) {
		const was = past(ms), now = samples[samples.length - 1];
		if (!was || !was.counts.has(name)) return null;
		const by = get(now.counts.get(name)) - get(was.counts.get(name));
		return by < 0 ? null : {by, seconds: (now.at - was.at) / 1000};
	}
	function perSecond(name, get) {
		const g = grown(RATES, name, get);
		return g && g.seconds > 0 ? g.by / g.seconds : null;
	}
	function hitRatio(name) {
		const hits = grown(SHARES, name, (p) => p.hits), misses = grown(SHARES, name, (p) => p.misses);
		return hits && misses && hits.by + misses.by > 0 ? hits.by / (hits.by + misses.by) : null;
	}
	// quantiles are p50, p99 and p999 of what was counted in the buckets over the last seconds.
	function quantiles(name, get) {
		const was = past(SHARES), now = samples[samples.length - 1];
		const wanted = [0.5, 0.99, 0.999], none = wanted.map(() => time(null));
		if (!was || !was.counts.has(name)) return none;
		const before = new Map(get(was.counts.get(name)).buckets);
		const buckets = get(now.counts.get(name)).buckets.map(([i, n]) => [i, n - (before.get(i) || 0)]);
		const total = buckets.reduce((sum, [, n]) => sum + n, 0);
		if (total <= 0) return none;
		return wanted.map((q) => {
			let left = Math.max(1, Math.ceil(q * total));
			for (const [i, n] of buckets) if ((left -= n) <= 0) return time(Math.pow(2, i / 8));
			return time(null);
		});
	}

	// numbers shows a list of named numbers in a dl.
	function numbers(dl, list) {
		list.forEach(([name, text, kind], i) => {
			let box = dl.children[i];
			if (!box) dl.append(box = make("div", null, make("dt"), make("dd")));
			say(box.children[0], name);
			say(box.children[1], text);
			look(box.children[1], kind || "");
		});
		while (dl.children.length > list.length) dl.lastElementChild.remove();
	}

	function showProcess(o) {
		const r = o.readiness, badge = $("ready");
		say(badge, r.ready ? (r.warm ? "● ready" : "◐ ready, and not all nodes are up") : "✕ not ready: " + (r.reasons || []).join("; "));
		look(badge, "badge " + (r.ready ? (r.warm ? "good" : "fair") : "bad"));
		numbers($("process"), [
			["Version", o.version],
			["Up", age((Date.parse(o.now) - Date.parse(o.started)) / 1000)],
			["Event loops", o.silent > 0 ? `${o.loops}, ${o.silent} silent` : String(o.loops), o.silent > 0 ? "bad" : ""],
		]);
	}
	function showClients(c) {
		const per = (get) => perSecond("clients", get), three = (get) => quantiles("clients", get).join(", ");
		const errors = per((x) => x.errors), moved = per((x) => x.failed_over), box = $("clients").querySelector("dl");
		numbers(box, [
			["Requests", rate(per((x) => x.requests))],
			["Hit ratio", percent(hitRatio("clients"))],
			["Reads p50, p99, p999", three((x) => x.reads)],
			["Writes p50, p99, p999", three((x) => x.writes)],
			["Errors", rate(errors), errors > 0 ? "bad" : ""],
			["Failovers", rate(moved), moved > 0 ? "fair" : ""],
			["Asked again", rate(per((x) => x.retries))],
			["Hedges", rate(per((x) => x.hedges))],
			["Repairs under way", short(c.repairs)],
			["Connected", short(c.connected)],
			["New", rate(per((x) => x.accepted))],
			["Turned away", short(c.refused), c.refused > 0 ? "fair" : ""],
			["From them", bytes(per((x) => x.received_bytes))],
			["To them", bytes(per((x) => x.sent_bytes))],
		]);
		draw(box.children[0]);
	}

	const COLUMNS = [["State", "state"], ["For", "number"], ["Requests", "number"], ["Hit ratio", "number"], ["p50", "number"], ["p99", "number"], ["p999", "number"],
		["From it", "number"], ["To it", "number"], ["Conns", "number"], ["In flight", "number"], ["Debt", "number"],
		["Cause", "cause"], ["Refill", "refill"]];

	// build makes what shows the pools, anew when there are others.
	function build(o) {
		const now = JSON.stringify(o.pools.map((p) => [p.name, p.copies.map((c) => [c.number, c.nodes.map((n) => n.name)])]));
		if (now === shape) return;
		shape = now;
		$("pools").replaceChildren(...o.pools.map(buildPool));
	}
	function buildPool(p) {
		const head = make("tr", {role: "row"}, make("th", {scope: "col", role: "columnheader"}, "Node"));
		for (const [name, kind] of COLUMNS) head.append(make("th", {scope: "col", role: "columnheader", class: kind === "number" ? kind : ""}, name));
		return make("section", {"data-pool": p.name, "aria-label": "Pool " + p.name},
			make("h2", null, "Pool " + p.name),
			make("dl", {class: "numbers"}),
			make("table", {role: "table", "aria-label": "Nodes of pool " + p.name}, make("thead", {role: "rowgroup"}, head), ...p.copies.map(buildCopy)));
	}
	function buildCopy(c) {
		const name = make("th", {scope: "rowgroup", role: "rowheader", colspan: COLUMNS.length + 1}, "Copy " + c.number + (c.number === 0 ? ", the primaries" : ""));
		return make("tbody", {role: "rowgroup"}, make("tr", {role: "row", class: "copy"}, name), ...c.nodes.map(buildNode));
	}
	function buildNode(n) {
		const row = make("tr", {role: "row", "data-node": n.name}, make("th", {scope: "row", role: "rowheader"}, n.name));
		for (const [name, kind] of COLUMNS) row.append(make("td", {role: "cell", class: kind, "data-label": name}));
		return row;
	}

	function showPool(section, p) {
		const name = "pool " + p.name, nodes = new Map(p.copies.flatMap((c) => c.nodes.map((n) => [n.name, n.state])));
		const up = [...nodes.values()].filter((state) => state === "up").length;
		numbers(section.children[1], [
			["Nodes up", `${up} of ${nodes.size}`, up < nodes.size ? "fair" : ""],
			["Requests to nodes", rate(perSecond(name, (x) => x.took.count))],
			["Hit ratio", percent(hitRatio(name))],
			["Nodes' p50, p99, p999", quantiles(name, (x) => x.took).join(", ")],
			["Debt", short(p.debt), p.debt > 0 ? "fair" : ""],
		]);
		p.copies.forEach((c, i) => c.nodes.forEach((n, j) => showNode(section.children[2].tBodies[i].rows[j + 1], p, c, n)));
	}

	// draw shows the requests of the last minute as a line.
	function draw(box) {
		const points = [];
		for (let i = 1; i < samples.length; i++) {
			const a = samples[i - 1], b = samples[i];
			points.push([b.at, 1000 * (b.counts.get("clients").requests - a.counts.get("clients").requests) / (b.at - a.at)]);
		}
		const most = Math.max(1, ...points.map((p) => p[1])), end = samples[samples.length - 1].at;
		let svg = box.querySelector("svg");
		if (!svg) {
			const space = "http://www.w3.org/2000/svg";
			svg = document.createElementNS(space, "svg");
			svg.setAttribute("viewBox", "0 0 100 20");
			svg.setAttribute("preserveAspectRatio", "none");
			svg.setAttribute("role", "img");
			svg.append(document.createElementNS(space, "polyline"));
			box.append(svg);
		}
		const least = points.length ? Math.min(...points.map((p) => p[1])) : 0;
		svg.setAttribute("aria-label", `requests a second in the last minute: from ${short(least)} to ${short(most)}`);
		svg.firstChild.setAttribute("points", points.map(([at, n]) =>
			`${(100 - 100 * (end - at) / KEPT).toFixed(1)},${(19 - 18 * n / most).toFixed(1)}`).join(" "));
	}

	function showNode(row, p, c, n) {
		const name = nodeName(p, c, n), cells = row.cells;
		const [sign, kind] = STATES[n.state] || ["?", "fair"];
		say(cells[1], `${sign} ${n.state}${n.drain ? ", drained" : ""}`);
		look(cells[1], "state " + (n.drain && kind === "good" ? "fair" : kind));
		const since = samples[samples.length - 1].at - Date.parse(n.since);
		const texts = [age(since / 1000), rate(perSecond(name, (x) => x.took.count)), percent(hitRatio(name)), ...quantiles(name, (x) => x.took),
			bytes(perSecond(name, (x) => x.received_bytes)), bytes(perSecond(name, (x) => x.sent_bytes)),
			short(n.connections), short(n.in_flight), short(n.debt),
			n.cause + (n.held_seconds ? `; held back for ${age(n.held_seconds)}` : "") + (n.probe_error && n.state === "down" ? `; probe: ${n.probe_error}` : "")];
		texts.forEach((text, i) => say(cells[2 + i], text));
		showRefill(cells[cells.length - 1], n.refill);
	}
	function showRefill(cell, r) {
		if (!r) {
			if (cell.childNodes.length) cell.replaceChildren();
			return;
		}
		if (!cell.childNodes.length) cell.append(make("span"), make("progress", {"aria-label": "keys looked at"}));
		const [text, bar] = cell.children;
		let said = r.phase + ": " + short(r.done) + (r.total ? ` of ${short(r.total)} keys (${Math.floor(100 * r.done / r.total)} %)` : " keys");
		said += `, ${short(r.keys_per_second)} keys/s, ${bytes(r.bytes_per_second)}`;
		if (r.eta_seconds !== undefined) said += `, ${age(r.eta_seconds)} to go`;
		say(text, said);
		if (!r.total) {
			bar.removeAttribute("value");
		} else {
			bar.max = r.total;
			bar.value = Math.min(r.done, r.total);
		}
	}

	// take shows an overview.
	function take(o) {
		if (o.started !== started) {
			started = o.started;
			samples = [];
			lastEvent = 0;
			events = [];
		}
		const at = Date.parse(o.now);
		if (samples.length && samples[samples.length - 1].at >= at) return; // the same again
		samples.push({at, counts: counted(o)});
		while (samples[0].at < at - KEPT) samples.shift();
		build(o);
		showProcess(o);
		showClients(o.clients);
		o.pools.forEach((p, i) => showPool($("pools").children[i], p));
		$("foot").hidden = $("history").hidden = $("clients").hidden = false;
		const down = new Set(o.pools.flatMap((p) => p.copies.flatMap((c) => c.nodes.filter((n) => n.state === "down").map((n) => n.name))));
		const title = (down.size ? `${down.size} down: ` : o.readiness.ready ? "" : "not ready: ") + "magent";
		if (document.title !== title) document.title = title;
	}

	// remember shows events that are new.
	function remember(more) {
		if (!more.length) return;
		lastEvent = more[more.length - 1].number;
		events = events.concat(more).slice(-MOST_EVENTS);
		const rows = $("events").tBodies[0];
		for (const e of more) {
			const cell = (label, kind, ...inside) => make("td", {role: "cell", "data-label": label, class: kind}, ...inside);
			const at = new Date(e.at);
			rows.prepend(make("tr", {role: "row", "data-kind": e.kind},
				make("td", {role: "cell", "data-label": "Time"}, make("time", {datetime: e.at}, at.toLocaleTimeString([], {hour12: false}))),
				cell("About", "", e.kind),
				cell("Node", "where", (e.pool ? e.pool + ": " : "") + (e.node || "")),
				cell("Event", "event", e.what + (e.more ? ", " + e.more : "")),
				cell("Cause", "cause", e.cause || "")));
		}
		while (rows.rows.length > events.length) rows.lastElementChild.remove();
		const last = more.filter((e) => e.kind === "state").pop();
		if (last) say($("said"), `${last.what}: ${last.node}`);
	}

	function trouble(text) {
		say($("trouble"), text);
		$("trouble").hidden = text === "";
		document.body.classList.toggle("old", text !== "");
	}

	// get asks for JSON, with the token if there is one.
	async function get(path) {
		const token = sessionStorage.getItem(KEY);
		const answer = await fetch(path, {
			headers: token ? {Authorization: "Bearer " + token} : {},
			cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(TIMEOUT),
		});
		const body = await answer.json().catch(() => ({}));
		if (!answer.ok) throw Object.assign(new Error(body.error || "it answers " + answer.status), {status: answer.status});
		return body;
	}

	async function ask() {
		const began = performance.now();
		asking = true;
		try {
			const o = await get("overview");
			take(o);
			if (o.events !== lastEvent) {
				const first = lastEvent === 0;
				const {events: more} = await get("events?after=" + lastEvent);
				if (first) $("events").tBodies[0].replaceChildren();
				remember(more);
			}
			trouble("");
			$("ask").hidden = true;
		} catch (e) {
			if (failed(e)) return;
		} finally {
			asking = false;
		}
		again(Math.max(0, PERIOD - (performance.now() - began)));
	}
	// failed says why there is no answer, and reports whether to wait for the user.
	function failed(e) {
		if (e.status === 401) {
			trouble(sessionStorage.getItem(KEY) ? e.message : "");
			sessionStorage.removeItem(KEY);
			$("ask").hidden = false;
			$("token").focus();
			return true;
		}
		const last = samples.length ? `What stands here is of ${new Date(samples[samples.length - 1].at).toLocaleTimeString([], {hour12: false})}. ` : "";
		trouble(`magent does not answer: ${e.message}. ${last}It is asked again each second.`);
		return false;
	}
	// again asks after a while; nobody is asked for a page that is not seen.
	function again(ms) {
		clearTimeout(timer);
		if (!document.hidden) timer = setTimeout(ask, ms);
	}

	document.addEventListener("visibilitychange", () => { if (!asking && $("ask").hidden) again(0); });
	$("ask").addEventListener("submit", (e) => {
		e.preventDefault();
		sessionStorage.setItem(KEY, $("token").value);
		$("token").value = "";
		ask();
	});
	ask();
})();
