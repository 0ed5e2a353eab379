/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A stream's place in a trace; and calls that are handed to a library, nghttp2, which writes them later, among others': whom
 * they are made for is known when they are handed in (probes/submitted.h), and of which stream.
 */
#ifndef AUTOINSTR_SUBMITTED_H
#define AUTOINSTR_SUBMITTED_H

/* What the current thread calls for, if that is certain. */
static __always_inline void know_asker(__u32 pid, struct submitted *call)
{
	__u64 runtime = runtime_of(pid);
	__u64 thread = (__u32)bpf_get_current_pid_tgid(), execution = execution_of(pid, thread, 0, runtime);
	struct context *ctx = contexts.lookup(&execution);

	if (!ctx || ctx->pid != pid)
		return;
	call->request = ctx->now;
	call->request.several = 0;
	if (runtime & RUNTIME_PYTHON && execution != thread)
		return;
	if (!call->request.span)
		call->why = ctx->loop ? ORPHAN_TURN : 0;
	else if (is_mixed(ctx, runtime) || (ctx->lent && !is_still_lent(pid, &call->request)))
		call->why = ORPHAN_SEVERAL;
	else if (call->request.stream && !(runtime & RUNTIME_IN_ORDER))
		call->why = ORPHAN_SHARED; /* who reads for others hands on what it has read */
	if (call->why)
		call->request.span = 0;
}

/* The current thread begins to hand in a call. */
static __always_inline void hand_in(__u32 pid, __u64 session)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct submitting new = {.session = session};

	know_asker(pid, &new.call);
	submitting.update(&tid, &new);
}

/* It has done so, as this stream. */
static __always_inline void note_handed_in(__s32 stream)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct submitting *new = submitting.lookup(&tid);

	if (!new)
		return;
	if (stream > 0) {
		struct submitted_key key = {.session = new->session, .stream = stream};
		struct submitted_key last = {.session = tid, .stream = stream}, other = {.stream = stream};
		struct submitted mark = {.request.key = new->session}, *before = submitted.lookup(&last);

		if (before && before->request.key != new->session) {
			other.session = before->request.key;
			before = submitted.lookup(&other);
			mark.request.several = before && !before->written;
		}
		submitted.update(&key, &new->call);
		submitted.update(&last, &mark);
	}
	submitting.delete(&tid);
}

/*
 * What was handed in as this stream of a client; NULL: it is not known. The thread that writes it is the one that handed it
 * in. `handed`: whether such things are handed in on this connection.
 */
static __always_inline struct submitted *find_submitted(struct http2 *h, __u32 tid, __u32 stream, int *handed)
{
	struct submitted_key key = {.session = h->library, .stream = stream}, last = {.session = tid, .stream = stream};
	struct submitted *found;

	*handed = h->library != 0;
	if (h->library)
		return submitted.lookup(&key);
	found = submitted.lookup(&last);
	*handed = found != NULL;
	if (!found || found->request.several)
		return NULL;
	key.session = found->request.key;
	found = submitted.lookup(&key);
	if (!found || found->written)
		return NULL;
	h->library = key.session;
	return found;
}

/* When it was met, of a stream and of an exchange alike. */
static __always_inline __u64 begun_at(const struct trace *request)
{
	return *(const __u64 *)((const __u8 *)request -
				(__builtin_offsetof(struct exchange, trace) - __builtin_offsetof(struct exchange, request_start)));
}

/*
 * Whoever has had a call on this connection may write what others have left there, also when its own stream has ended and
 * no other one is open (tasks of Python's httpx write and read in turn, each for all). May `parent` be one of them? Those
 * whose calls were certain are marked; the others are older than the last one that was not.
 */
static __always_inline int may_write_for_others(struct trace *parent, const struct http2 *h)
{
	__u32 this = 128 | (spread(h->id) & 127), before = (parent->flags & TRACE_CALLED_MASK) >> TRACE_CALLED_SHIFT;
	__u32 now = before && before != this ? TRACE_CALLED_SEVERAL : this;
	__u64 begun = begun_at(parent);

	parent->flags = (parent->flags & ~TRACE_CALLED_MASK) | now << TRACE_CALLED_SHIFT;
	return before == this || before == TRACE_CALLED_SEVERAL || begun <= h->blurred || (h->old && begun <= h->id >> 8);
}

#define NEW_STREAMS 128 /* numbers of streams, of which clients use every other one */

/*
 * A client's stream is about to be told, or written. `several`: so are others, by the same call. Returns whether its place
 * is certain not to change any more.
 */
static __always_inline int place_call_of(const struct connection *c, struct http2 *h, __u64 sock, struct caller by,
					 struct stream *st, const struct served *this, int several)
{
	struct served found = {};
	struct trace *parent;
	int handed, met = meet_caller(c, sock, by, st, this);

	if (met != CALLER_NONE)
		return met == CALLER_MET;

	struct submitted *call = find_submitted(h, by.tid, this->stream, &handed);
	if (call) {
		call->written = 1;
		found = call->request;
		say_why(&st->trace, call->why);
		parent = served_trace(&found);
	} else if (handed) {
		parent = unsure_parent(&st->trace, &found, ORPHAN_SHARED);
	} else {
		parent = find_parent(c, sock, by, &st->trace, &found);
		if (!(runtime_of(by.pid) & (RUNTIME_GO | RUNTIME_IN_ORDER))) {
			/* whoever writes writes what others have left there, too, unless there are none */
			if (parent && (may_write_for_others(parent, h) || several || h->opened - h->ended > 1))
				parent = unsure_parent(&st->trace, &found, ORPHAN_SHARED);
			if (!parent)
				h->blurred = bpf_ktime_get_ns();
		}
	}
	become_child(&st->trace, parent, &found);
	meet_stream(c, &st->trace, this, by.pid, 0);
	return !st->waits;
}

#ifdef PROPAGATE_HEADERS
/* A field with a traceparent, as part of a header block. */
struct field {
	__u8 kind, name_size, name[NAME_SIZE_PLAIN], size;
	struct trace_text text;
	__u8 unused;
	struct trace said;
};

/*
 * A server's stream, numbered `i` of those that have begun. What another agent has put at the end of its header block is as it
 * writes it; so the trace is known before anything is called for this request. Whatever else a block brings is only read
 * in user space.
 */
static __always_inline void take_inserted(const struct connection *c, struct http2 *h, struct work *w, __u32 i)
{
	struct stream_key key = {.id = h->id, .stream = w->streams[i & (BEGUN - 1)]};
	struct field *field = (struct field *)(w->window + WINDOW); /* behind what is told */
	__u64 at = w->fields[i & (BEGUN - 1)];
	struct stream *st;

	if (c->role != ROLE_SERVER || !at || bpf_probe_read_user(field, BLOCK_FIELD, (void *)at))
		return;
	if (field->kind || field->name_size != NAME_SIZE_PLAIN || field->size != TRACEPARENT_SIZE ||
	    load64(field->name) != NAME_PLAIN || *(__u32 *)(field->name + 7) != NAME_PLAIN_END)
		return;
	st = streams.lookup(&key);
	if (st && !st->trace.parent && read_text(&field->text, 0, &field->said))
		continue_trace(&st->trace, &field->said, 0);
}
#endif

/* A stream of HTTP/2 has begun. */
static __always_inline void place_stream(const struct connection *c, struct http2 *h, struct work *w, __u32 stream)
{
	struct stream_key key = {.id = h->id, .stream = stream};
	struct stream *st = streams.lookup(&key);
	struct served this = {.key = h->id, .stream = stream};

	if (!st)
		return;
	this.span = st->trace.span;
	if (c->role == ROLE_SERVER) {
		say_why(&st->trace, ORPHAN_ELSEWHERE);
		meet_stream(c, &st->trace, &this, w->pid, stream - h->first < NEW_STREAMS);
		serve(NULL, w, &this);
		return;
	}
#ifdef PLACES_EARLY
	if (st->placed)
		return;
#endif
	place_call_of(c, h, w->sock, caller_of(w), st, &this, 0);
}

/* Something of a request's body has come, to an event loop that acts on that at once. */
static __always_inline void place_body(struct context *ctx, struct http2 *h, __u32 stream)
{
	struct stream_key key = {.id = h->id, .stream = stream};
	struct stream *st = streams.lookup(&key);
	struct served this = {.key = h->id, .stream = stream};

	if (!st) {
		ctx->mixed |= AT_ONCE; /* of several, or it has been answered */
		return;
	}
	this.span = st->trace.span;
	if (is_behind(ctx, &this))
		ctx->mixed |= AT_ONCE;
	go_on_with(ctx, &this);
}

/* Something of a response has come. An event loop goes on with what that call was made for. */
static __always_inline void place_answer(const struct connection *c, struct http2 *h, const struct work *w)
{
	struct submitted_key key = {.session = h->library, .stream = w->answered};
	struct submitted *call = h->library ? submitted.lookup(&key) : NULL;
	__u64 execution = w->tid;
	struct context *ctx = contexts.lookup(&execution);

	if (!ctx || !ctx->loop || ctx->pid != w->pid)
		return;
	if (c->role == ROLE_SERVER)
		place_body(ctx, h, w->answered);
	else if (call && call->request.span)
		go_on_with(ctx, &call->request);
	else
		ctx->now.span = 0;
}

#endif
