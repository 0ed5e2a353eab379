/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Who is at work (a thread, a goroutine, a context of Python), and which request that one serves: the one that it has read.
 * A call is made for the request that the same one serves; where that is not certain there is no parent: none is better than
 * a wrong one.
 */
#ifndef AUTOINSTR_EXECUTIONS_H
#define AUTOINSTR_EXECUTIONS_H

static __always_inline __u64 user_u64(__u64 address)
{
	__u64 value = 0;

	bpf_probe_read_user(&value, sizeof(value), (void *)address);
	return value;
}

/*
 * A goroutine: by its id, which is used once, if it is known where that is; else by the address of its g, which serves others
 * later. No thread's id is as large.
 */
static __always_inline __u64 goroutine_key(__u32 pid, __u64 g, struct go_layout *l)
{
	if (!l || !l->goid)
		return session_key(pid, g);

	return (__u64)pid << SESSION_BITS | (user_u64(g + l->goid) & SESSION_MASK);
}

/*
 * A context of Python, or a greenlet, that does something of its own; 0: it is the thread itself. uvloop reads outside of
 * contexts, and then enters one that many connections may share: what is done in that is done for what the thread has
 * read. And the greenlet that waits for events is the thread.
 */
static __always_inline __u64 own_context(__u32 pid, __u32 tid, __u64 runtime)
{
	__u64 context = python_context(runtime), thread = tid;
	struct context *ctx;

	if (!(runtime & RUNTIME_UVLOOP) && (context || !has_greenlets(runtime)))
		return context;
	ctx = contexts.lookup(&thread);
	if (!ctx || ctx->pid != pid)
		return context;
	if (!context && has_greenlets(runtime) && ctx->entered)
		context = python_greenlet(runtime);
	return context == ctx->entered ? 0 : context;
}

/* Who is at work: a thread, or a goroutine, or a context of Python. `tid`: the thread. */
static __always_inline __u64 execution_of(__u32 pid, __u32 tid, __u64 goroutine, __u64 runtime)
{
	if (runtime & RUNTIME_GO && goroutine)
		return goroutine_key(pid, goroutine, go_layouts.lookup(&pid));

	__u64 context = runtime & RUNTIME_PYTHON ? own_context(pid, tid, runtime) : 0;

	return context ? session_key(pid, context) : tid;
}

#define GOROUTINES_LOT 16 /* ids of goroutines are given to processors in lots of so many */

/* A goroutine goes on with something: which ids will those get that are begun from now on? */
static __always_inline void note_ids(struct context *ctx, __u64 g, const struct go_layout *l)
{
	if (!l->parent)
		return; /* it is not known by whom one is begun */

	__u64 last = l->last_id ? user_u64(first_code() + l->last_id) : 0;
	__u64 machine = user_u64(g + l->machine), processor = user_u64(machine + l->processor), lot[2] = {};

	if (!processor)
		processor = user_u64(machine + l->left);
	bpf_probe_read_user(lot, sizeof(lot), (void *)(processor + l->ids));
	ctx->lot = lot[0];
	ctx->spare = lot[1] - lot[0] <= GOROUTINES_LOT ? lot[1] - lot[0] : 0;
	ctx->since = last && last + 1 >= lot[1] ? last : ~0ULL;
}

/* Was the goroutine with this id begun since then? */
static __always_inline int is_begun_since(const struct context *ctx, __u64 id)
{
	return id > ctx->since || id - ctx->lot < ctx->spare;
}

/* The place of a request that is served; NULL: it is not served any more. */
static __always_inline struct trace *served_trace(const struct served *served)
{
	if (!served->span)
		return NULL;
	if (served->stream) {
		struct stream_key key = {.id = served->key, .stream = served->stream};
		struct stream *st = streams.lookup(&key);

		return st && st->trace.span == served->span ? &st->trace : NULL;
	}

	__u64 key = served->key;
	struct connection *c = connections.lookup(&key);

	return c && c->slot_used && c->slot.trace.span == served->span ? &c->slot.trace : NULL;
}

/*
 * A goroutine that was not met yet goes on with what the one serves that has begun it, unless it was there before that
 * request; returns its context, or NULL. `writes`: it writes a request over HTTP/2, and so was begun by the call itself if
 * that makes one.
 */
static __always_inline struct context *inherit(__u32 pid, __u64 g, __u64 execution, int writes)
{
	struct go_layout *l = go_layouts.lookup(&pid);

	if (!l || !l->parent)
		return NULL;

	__u64 parent = (__u64)pid << SESSION_BITS | (user_u64(g + l->parent) & SESSION_MASK);
	struct context *from = contexts.lookup(&parent);

	if (!from || from->pid != pid)
		return NULL;

	__u8 asks = writes && from->asks;
	if (!asks && (!from->now.span || !is_begun_since(from, execution & SESSION_MASK)))
		return NULL;

	/* those that this one begins are all for the same */
	struct context new = {.now = from->now, .first = from->first, .pid = pid, .mixed = from->mixed, .asks = asks};

	contexts.update(&execution, &new);
	return contexts.lookup(&execution);
}

/* What a connection is to answer next takes the place of SPAN_NEXT, if that is known by now; returns the connection, or NULL. */
static __always_inline struct connection *know_next(struct served *served)
{
	struct connection *c = connections.lookup(&served->key);

	if (c && c->other && !c->session) {
		served->key = c->other;
		c = connections.lookup(&served->key);
	}
	if (!c || !c->slot_used || c->role != ROLE_SERVER)
		return NULL;
	served->span = c->slot.trace.span;
	return c;
}

/* It is not certain what this call is made for. */
static __always_inline struct trace *unsure_parent(struct trace *t, struct served *found, enum orphan why)
{
	found->span = 0;
	say_why(t, why);
	return NULL;
}

/* A socket, by its address, which others get later, and by its port, which those seldom have, too. */
static __always_inline __u64 name_of(__u64 sk)
{
	return sk ^ (__u64)local_port(sk) << 48;
}

/* A thread can't go on with this socket for now. */
static __always_inline void note_pause(__u32 pid, __u32 tid, __u64 sock)
{
	__u64 execution = tid;
	struct context *ctx = contexts.lookup(&execution);

	if (ctx && ctx->pid == pid && ctx->now.span)
		ctx->paused = name_of(sock);
}

/* A thread does something with this socket; returns what is known of its process by then. `ctx`: of the thread; may be NULL. */
static __always_inline __u64 runtime_behind(const struct context *ctx, __u32 pid, __u64 sock, __u64 runtime)
{
	if (!ctx || runtime & (RUNTIME_KNOWN | RUNTIME_SWITCHES) || ctx->pid != pid || !ctx->paused ||
	    ctx->paused == name_of(sock) || !served_trace(&ctx->now))
		return runtime;
	return note_switches(pid, runtime, 1);
}

/* A thread answers what another one has read, which was an event loop. */
static __always_inline void note_moved(__u32 pid, __u32 tid)
{
	__u64 execution = tid, runtime = runtime_of(pid);
	struct context *ctx = contexts.lookup(&execution);

	if (ctx && ctx->pid == pid && ctx->loop && !(runtime & (RUNTIME_KNOWN | RUNTIME_SWITCHES)))
		note_switches(pid, runtime, 1);
}

/*
 * What a call of such a process is made for: what it serves, if that was never more than one request at a time. One that calls
 * when all is answered, or when nothing was asked yet, does so while it serves something, too.
 */
static __always_inline struct trace *find_only(__u32 pid, struct trace *t, struct served *found)
{
	struct lender *lender = lenders.lookup(&pid);
	struct trace *parent;

	if (!lender || lender->several)
		return unsure_parent(t, found, ORPHAN_SEVERAL);
	*found = lender->newest;
	parent = served_trace(found);
	if (!parent)
		lender->several = 1;
	return parent;
}

/* A process that lends what it serves to new threads has read a request. */
static __always_inline void note_served(__u32 pid, const struct served *served)
{
	struct lender *lender = lenders.lookup(&pid);

	if (!lender)
		return;
	__sync_fetch_and_add(&lender->begun, 1);
	if (lender->begun - lender->noted != 1 || (lender->newest.span != served->span && served_trace(&lender->newest)))
		lender->several = 1;
	lender->newest = *served;
	__sync_fetch_and_add(&lender->noted, 1);
}

/* It serves this request, and was never seen to serve several at a time. */
static __always_inline int serves_only(const struct lender *lender, const struct served *now)
{
	return !lender->several && lender->newest.span == now->span;
}

/* Whether a new thread may go on with what its creator serves. Of the first one it is not known who else is served. */
static __always_inline int may_lend(__u32 pid, const struct served *now)
{
	struct lender *lender = lenders.lookup(&pid), new = {.newest = *now};
	__u64 runtime = runtime_of(pid);

	if (switches(runtime))
		return 0; /* what a thread of it does next need not be for what it has read */
	if (!lender || !(runtime & RUNTIME_LENDS)) { /* user space may have taken the flag away */
		lenders.update(&pid, &new);
		set_runtime(pid, runtime | RUNTIME_LENDS);
		return 0;
	}
	return serves_only(lender, now);
}

/* The new process, or thread (`pid` is that of `parent`), goes on with what its creator serves. */
static __always_inline void note_fork(__u32 parent, __u64 thread, __u32 pid)
{
	__u64 execution = (__u32)bpf_get_current_pid_tgid();
	struct context *ctx = contexts.lookup(&execution);

	if (!ctx || ctx->loop || ctx->lent || ctx->pid != parent || !served_trace(&ctx->now))
		return;
	if (pid == parent && !may_lend(pid, &ctx->now))
		return;

	struct context new = {.now = ctx->now, .first = ctx->first, .pid = pid, .lent = pid == parent};

	contexts.update(&thread, &new);
}

/* What was lent is still all that the process serves. */
static __always_inline int is_still_lent(__u32 pid, const struct served *now)
{
	struct lender *lender = lenders.lookup(&pid);

	return lender && serves_only(lender, now);
}

#endif
