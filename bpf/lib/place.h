/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Gives a request its place: of a server by who has asked, of a client by whom it is made for.
 */
#ifndef AUTOINSTR_PLACE_H
#define AUTOINSTR_PLACE_H

/* What a call is made for, if that is certain; returns its place, or NULL. */
static __always_inline struct trace *find_parent(const struct connection *c, __u64 sock, struct caller by, struct trace *t,
						 struct served *found)
{
	__u64 runtime = runtime_of(by.pid);
	__u64 execution = execution_of(by.pid, by.tid, by.goroutine, runtime);
	struct context *ctx = contexts.lookup(&execution);

	if (!ctx)
		runtime = runtime_by_name(by.pid, runtime);
	runtime = runtime_behind(ctx, by.pid, c->session ? c->other : sock, runtime);
	runtime = runtime_of_loops(ctx, by.pid, by.tid, runtime);
	if (switches(runtime))
		return find_only(by.pid, t, found);

	if (runtime & RUNTIME_GO && c->asked && !c->http2) {
		*found = c->origin; /* whatever the one serves that writes: it does so for whoever asks */
		return served_trace(found);
	}
	if (!ctx && runtime & RUNTIME_GO && by.goroutine)
		ctx = inherit(by.pid, by.goroutine, execution, c->http2);
	if (ctx && ctx->pid == by.pid)
		*found = ctx->now;
	else
		ctx = NULL;
	if (runtime & RUNTIME_PYTHON && execution != by.tid) {
		if (ctx && found->span == SPAN_NEXT) {
			struct served next = *found;
			struct connection *own = know_next(&next);

			if (!own)
				note_after(by.pid, runtime);
			else if (takes_up(ctx, own, &next, by.tid, runtime))
				*found = next;
		}
		if (found->span == SPAN_NEXT)
			return unsure_parent(t, found, ORPHAN_TURN);
		return served_trace(found); /* a context's own, or none: there is no better word */
	}
	/*
	 * Who reads from a connection that many requests share hands them to others, and who writes to one writes whatever
	 * waits (gRPC's C core, with any of its threads), unless all is done in order.
	 */
	if (found->span && !(runtime & (RUNTIME_GO | RUNTIME_IN_ORDER)) && (found->stream || (ctx && ctx->loop && c->http2)))
		return unsure_parent(t, found, ORPHAN_SHARED);
	if (ctx && ctx->loop) {
		ctx->mixed |= ACTED;
		/* what is asked over a new connection is asked as soon as that is there, whatever was read meanwhile */
		if (c->fresh && c->requests == 1 && !c->http2) {
			*found = c->origin;
			return served_trace(found);
		}
		/* outside of its contexts Python writes what a socket had no room for */
		if (found->span && (runtime & RUNTIME_PYTHON || is_mixed(ctx, runtime)))
			return unsure_parent(t, found, ctx->mixed & (MIXED | AT_ONCE) ? ORPHAN_SEVERAL : ORPHAN_TURN);
		if (!found->span) {
			say_why(t, ORPHAN_TURN);
			if (puts_off(ctx, runtime))
				note_switches(by.pid, runtime, 1);
		}
		return served_trace(found);
	}

	if (ctx && found->span && (is_mixed(ctx, 0) || (ctx->lent && !is_still_lent(by.pid, found))))
		return unsure_parent(t, found, ORPHAN_SEVERAL);

	struct trace *parent = served_trace(found);
	if (!parent && (c->asked || !c->responses) && !c->http2) {
		*found = c->origin; /* who has asked for it, or has connected it */
		parent = served_trace(found);
	}
	return parent;
}

/* A connection is made, for what its first request will be made for. */
static __always_inline void note_connect(struct connection *c, __u64 sock, __u32 pid, __u64 goroutine)
{
	__u64 runtime = runtime_of(pid);
	__u64 execution = execution_of(pid, bpf_get_current_pid_tgid(), goroutine, runtime);
	struct context *ctx = contexts.lookup(&execution);

	runtime = runtime_behind(ctx, pid, sock, runtime);
	runtime = runtime_of_loops(ctx, pid, bpf_get_current_pid_tgid(), runtime);
	if (!ctx || ctx->pid != pid)
		return;
	/* a loop of Python that has no contexts does later what it is asked for (Twisted) */
	int later = ctx->loop && execution == (__u32)bpf_get_current_pid_tgid() &&
		    (runtime & (RUNTIME_PYTHON | RUNTIME_UVLOOP)) == RUNTIME_PYTHON;
	if (!is_mixed(ctx, runtime) && !switches(runtime) && !later)
		c->origin = ctx->now;
	ctx->mixed |= ACTED;
}

/* A server's request: its parent is who asked, on this machine, or by trace context. */
static __always_inline void place_served(struct connection *c, struct work *w, struct exchange *x)
{
	struct served served = {.key = w->sock, .span = x->trace.span};

	say_why(&x->trace, ORPHAN_ELSEWHERE);
	struct offer *offer = find_call(c, &x->trace, x->sequence);
	const struct trace *asked = offer ? &offer->trace : NULL;
	struct trace said = {};

	if (offer)
		take_offer(&x->trace, offer, w->pid);
#ifdef PROPAGATE
	if (!offer) {
		asked = arrived_with(w);
		if (asked)
			continue_trace(&x->trace, asked, 0);
	}
#endif
	if (x->traceparent && read_traceparent(x, &said)) {
		struct brought key = {.parent = said.span, .pid = w->pid};

		/* passed on by a client that is watched: that one's call lies between */
		if (asked && asked->flags & TRACE_KEPT && is_same_trace(asked, &said)) {
			x->trace.flags |= TRACE_KEPT;
		} else {
			x->trace.flags &= ~(TRACE_PEER | TRACE_SAMPLED | TRACE_KEPT);
			continue_trace(&x->trace, &said, 0);
		}
		struct served *before = brought.lookup(&key);
		struct served new = served;

		new.several = before && before->span != served.span && (before->several || served_trace(before));
		brought.update(&key, &new);
	}
	if (!offer && is_call_coming(c, w->sock))
		wait_for_call(c, &x->trace, &served, x->sequence, w->pid);
	serve(c, w, &served);
}

/*
 * The same, if it is as it mostly is: nobody is known to have asked, the process is none that is special, and who has read
 * the request is known and does one thing after another, or many in turn. Returns whether it was.
 */
static __always_inline int place_plainly(struct connection *c, const struct work *w)
{
#ifdef PROPAGATE
	return 0;
#else
	struct exchange *x = &c->slot;
	__u64 execution = w->tid;
	zero_key zero = 0;
	__u32 now = 0;
	struct made *m = made.lookup((__u32 *)&zero);
	struct served served = {.key = w->sock, .span = x->trace.span};

	if (c->role != ROLE_SERVER || c->session || x->traceparent || !c->slot_used || x->sequence != w->streams[0])
		return 0;
	if (!m || !c->pair || c->unasked != m->offers + 1 || !knows_runtime(w, &now))
		return 0;
	if (w->known_runtime & ~(RUNTIME_IN_ORDER | RUNTIME_LOOPS | RUNTIME_WOKEN))
		return 0;

	struct context *ctx = contexts.lookup(&execution);

	/* the slot is this one's, so what was read of the connection before is answered: is_behind() need not be asked */
	if (!ctx || ctx->pid != w->pid || (!ctx->loop && ctx->now.key != served.key))
		return 0;
	say_why(&x->trace, ORPHAN_ELSEWHERE);
	take_request(ctx, c, &served, w->tid);
	return 1;
#endif
}

/*
 * A call brings trace context that a request of this process has brought: it is passed on. By whom is known if the caller
 * serves a request of that trace, or if one only has brought it.
 */
static __always_inline struct trace *find_bringer(const struct served *bringer, struct trace *parent, const struct trace *said,
						  struct trace *t, struct served *found)
{
	t->flags |= TRACE_KEPT;
	if (parent && is_same_trace(parent, said))
		return parent;
	*found = *bringer;
	parent = served_trace(found);
	if (parent && is_same_trace(parent, said) && !found->several)
		return parent;
	t->id[0] = said->id[0];
	t->id[1] = said->id[1];
	t->flags |= said->flags;
	return unsure_parent(t, found, ORPHAN_SEVERAL);
}

/* A client's request is made for `found`, or brings trace context that says it. */
static __always_inline void seek_parent(struct connection *c, const struct work *w, struct exchange *x,
					const struct trace *said, struct served *found)
{
	struct trace *parent = find_parent(c, w->sock, caller_of(w), &x->trace, found);

	if (said->span) {
		struct brought key = {.parent = said->span, .pid = w->pid};
		struct served *bringer = brought.lookup(&key);

		if (bringer) {
			parent = find_bringer(bringer, parent, said, &x->trace, found);
		} else {
			parent = NULL;
			x->trace.flags |= TRACE_OWN;
			continue_trace(&x->trace, said, 0);
		}
	}
	become_child(&x->trace, parent, found);
}

#ifdef PROPAGATE_GO
/* Is the trace context of this request's head a field that was written for it? Then that is its place. */
static __always_inline int take_written(const struct work *w, struct exchange *x, const struct trace *said,
					struct served *found)
{
	__u64 key = w->sock;
	struct written_field *f = said->span ? written_fields.lookup(&key) : NULL;

	if (!f || said->span != f->trace.span || !is_same_trace(said, &f->trace))
		return 0;
	x->trace = f->trace;
	x->traceparent = 0; /* it is none of the program's */
	*found = f->origin;
	written_fields.delete(&key);
	return 1;
}
#endif

/* A client's request: its parent is what it is made for. */
static __always_inline void place_call(struct connection *c, const struct work *w, struct exchange *x)
{
	struct served found = {};
	struct trace said = {};

	if (x->traceparent && !read_traceparent(x, &said))
		said.span = 0;
#ifdef PROPAGATE_GO
	if (!take_written(w, x, &said, &found))
#endif
		seek_parent(c, w, x, &said, &found);

	struct served call = {.key = w->sock, .span = x->trace.span};

	c->origin = found;
	c->asked = 0;
	make_call(c, &x->trace, &call, x->sequence, w->pid);
#ifdef PROPAGATE
	announce(w, &x->trace, x->sequence);
#endif
}

/* What a stream is made for is known by who makes the call. */
static __always_inline void place_asked(const struct connection *c, struct stream *st, const struct served *this,
					const struct asked *asked, __u32 pid)
{
	struct served origin = asked->origin;

	st->waits = 0;
	st->name = asked->name;
	become_child(&st->trace, served_trace(&origin), &origin);
	meet_stream(c, &st->trace, this, pid, 0);
}

enum { CALLER_NONE, CALLER_ELSEWHERE, CALLER_MET };

/*
 * Are streams of this connection made by who leaves what is known of them? Until one has been left, or answered without, that
 * is told by who writes: what is begun to write a call of net/http is known (go_look_up).
 */
static __always_inline int has_callers(const struct connection *c, const struct http2 *h, const struct go_layout *l,
				       struct caller by)
{
	if (c->asked || h->ended || !l->parent || !by.goroutine)
		return c->asked;

	__u64 execution = execution_of(by.pid, by.tid, by.goroutine, RUNTIME_GO);
	struct context *ctx = contexts.lookup(&execution);

	if (!ctx)
		ctx = inherit(by.pid, by.goroutine, execution, 1);
	return !ctx || ctx->pid != by.pid || !ctx->asks;
}

/*
 * Who makes the call that this stream is has left what is known of it, or will do so in a moment: each first writes what is its
 * own and then looks for the other's. Returns whether it is in these hands, and whether it has its place by now.
 */
static __always_inline int meet_caller(const struct connection *c, __u64 sock, struct caller by, struct stream *st,
				       const struct served *this)
{
	__u32 pid = by.pid;
	struct go_layout *l = runtime_of(pid) & RUNTIME_GO ? go_layouts.lookup(&pid) : NULL;
	struct asked_key key = {.key = sock, .stream = this->stream};
	struct http2 *h = l && l->rpc_client ? http2_connections.lookup(&key.key) : NULL;

	if (!h)
		return CALLER_NONE;
#ifdef PROPAGATE_GO
	if (h->plain)
		return CALLER_NONE;
#endif
	st->waits = 1;
	__sync_fetch_and_add(&h->meetings, 1);

	struct asked *asked = asked_streams.lookup(&key);
	if (!asked && c->other) { /* the session was not known as such then */
		key.key = c->other;
		asked = asked_streams.lookup(&key);
	}
	if (!asked || asked->pid != pid) {
		if (has_callers(c, h, l, by))
			return CALLER_ELSEWHERE;
		st->waits = 0;
		return CALLER_NONE;
	}

	struct asked taken = *asked;
	if (asked_streams.delete(&key))
		return CALLER_ELSEWHERE;
	place_asked(c, st, this, &taken, pid);
	return CALLER_MET;
}

#endif
