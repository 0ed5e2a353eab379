/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Who waits for several connections at a time (an event loop) serves what it has read last, until it waits again; a response
 * that it reads brings it back to what the call was made for.
 */
#ifndef AUTOINSTR_LOOPS_H
#define AUTOINSTR_LOOPS_H

/* Turn of a thread's event loop. */
static __always_inline __u8 turn_of(__u32 pid, __u32 tid)
{
	__u64 thread = tid;
	struct context *ctx = contexts.lookup(&thread);

	return ctx && ctx->pid == pid ? ctx->turn : 0;
}

/* Is this the turn in which those are woken up who wait for what was read in the other? */
static __always_inline int is_next_turn(__u8 turn, __u8 read)
{
	return turn & TURN_AT_ONCE && TURN_COUNT(turn - (read & ~TURN_AT_ONCE)) == 1;
}

/*
 * A task that a connection has for itself does something: for the request that it was woken up for, in the turn behind the
 * one that has read it. Once it has begun with a request it stays with it until that is answered. What it does in other
 * turns may be for the one before, whose response is out. `next`: what the connection, `c`, has to answer. Returns whether
 * it is certain that it is for that.
 */
static __always_inline int takes_up(struct context *task, const struct connection *c, const struct served *next, __u32 tid,
				    __u64 runtime)
{
	if (runtime & RUNTIME_AFTER || c->requests - c->responses != 1)
		return 0;
	if (task->first != next->span && !is_next_turn(turn_of(task->pid, tid), c->turn))
		return 0;
	task->first = next->span;
	return 1;
}

/* Such a task makes a call while nothing is asked of it: nothing is certain any more of what it does when something is. */
static __always_inline void note_after(__u32 pid, __u64 runtime)
{
	set_runtime(pid, runtime | RUNTIME_AFTER);
}

/*
 * A thread is about to make a call. Where several event loops of a process do, what one has to do may have been handed to it
 * by another one, so what it has read itself says nothing of it. Returns what is known of the process by then.
 */
static __always_inline __u64 runtime_of_loops(const struct context *ctx, __u32 pid, __u32 tid, __u64 runtime)
{
	__u32 *first;

	if (!ctx || ctx->pid != pid || ctx->loop != EVENT_LOOP || runtime & (RUNTIME_KNOWN | RUNTIME_SWITCHES))
		return runtime;
	loops.insert(&pid, &tid);
	first = loops.lookup(&pid);
	return first && *first != tid ? note_switches(pid, runtime, 1) : runtime;
}

#define MIXED 1   /* one after the other */
#define AT_ONCE 2 /* before it has done anything for the first: so does who acts on each in its order, of one connection */
#define ACTED 4   /* a call was begun since it has read the last one */
#define READ_OTHER 16 /* it has read, or learned, something else since it waited */
#define READ_ON 8 /* it has read more of a connection of HTTP/2, and nothing was done for the last one */

#define TIME_STEP 16 /* 65 us */
#define STEPS_OF(time) ((__u32)((time) >> TIME_STEP))
#define FAR_OFF (1ULL << 45) /* ns, ten hours: as good as never, and what is nearer can be told from what is past */
#define WAITS_ON (~0ULL)
#define MILLISECOND 1000000
#define SLACK (2 * MILLISECOND) /* most loops know of time in milliseconds, have looked at it some time ago, and round up */

/*
 * Is an event loop maybe at something that has nothing to do with what it has read: a timer, which it acts on behind that, or
 * what another thread has left to it? Without a branch, of which verifiers would have to follow both ways.
 */
static __always_inline __u32 may_be_elsewhere(const struct context *ctx, __u64 runtime)
{
	__u32 due = ctx->due, rest = due - 1 - STEPS_OF(bpf_ktime_get_ns());

	return ((due | -due) & rest) >> 31 | (ctx->loop & EVENT_LOOP & runtime >> RUNTIME_WOKEN_BIT);
}

/* Has an execution met several requests, or does other things, so that nobody knows which it is at work on? */
static __always_inline int is_mixed(const struct context *ctx, __u64 runtime)
{
	if (runtime & RUNTIME_IN_ORDER)
		return ctx->mixed & AT_ONCE;
	return ctx->mixed & (MIXED | AT_ONCE) || may_be_elsewhere(ctx, runtime);
}

/* An execution goes on with this request. */
static __always_inline void go_on_with(struct context *ctx, const struct served *served)
{
	if (ctx->first && ctx->first != served->span)
		ctx->mixed |= MIXED;
	else
		ctx->first = served->span;
	ctx->mixed &= ~ACTED;
	ctx->now = *served;
}

/* It has read this request, in thread `tid`. `c`: the connection, of HTTP/1. */
static __always_inline void take_request(struct context *ctx, struct connection *c, const struct served *served, __u32 tid)
{
	if (!ctx->loop)
		ctx->first = 0;
	ctx->lent = 0;
	ctx->paused = 0;
	if (c)
		c->reader = ctx->loop ? tid : 0;
	go_on_with(ctx, served);
}

/*
 * Has it read another request of this connection in its turn, and done nothing for that yet? What a library gives out piece by
 * piece may be put together again before anything is done.
 */
static __always_inline int is_behind(const struct context *ctx, const struct served *served)
{
	if (ctx->now.key != served->key || ctx->now.span == served->span)
		return 0;
	return ctx->mixed & READ_ON || (!(ctx->mixed & ACTED) && served_trace(&ctx->now));
}

/* An execution has read a request. `c`: the connection, of HTTP/1. */
static __always_inline void serve(struct connection *c, struct work *w, const struct served *served)
{
	__u32 pid = w->pid;
	__u64 runtime = runtime_of_server(w);
	__u64 execution = execution_of(pid, w->tid, w->goroutine, runtime);
	__u8 at_once = w->several && runtime & (RUNTIME_IN_ORDER | RUNTIME_PYTHON) ? AT_ONCE : 0;
	struct context *ctx = contexts.lookup(&execution);
	struct go_layout *l = runtime & RUNTIME_GO ? go_layouts.lookup(&pid) : NULL;
	int reads_now = runtime & RUNTIME_UVLOOP && (__s64)w->sock < 0; /* from a socket; of a session it reads in a context */

	if (!ctx)
		runtime = runtime_by_name(pid, runtime);
	if (runtime & (RUNTIME_LENDS | RUNTIME_SWITCHES))
		note_served(pid, served);
	if (runtime & RUNTIME_PYTHON && c)
		c->turn = turn_of(pid, w->tid);

	if (!ctx || ctx->pid != pid) {
		struct context new = {.now = *served, .first = served->span, .pid = pid, .mixed = at_once};

		if (reads_now)
			new.entered = READ_NOW;
		else if (l)
			note_ids(&new, w->goroutine, l);
		if (c)
			c->reader = 0;
		contexts.update(&execution, &new);
		return;
	}
	if (reads_now)
		ctx->entered = READ_NOW;
	if (runtime & RUNTIME_IN_ORDER && is_behind(ctx, served))
		at_once = AT_ONCE;
	if (!ctx->loop && ctx->now.key != served->key && served_trace(&ctx->now)) {
		ctx->loop = EVENT_LOOP; /* it has not answered the last one yet */
		runtime_behind(ctx, pid, w->sock, runtime);
	}
	take_request(ctx, c, served, w->tid);
	ctx->mixed |= at_once;
	if (l) {
		ctx->asks = 0;
		note_ids(ctx, w->goroutine, l);
	}
}

#define TURNS_LOOKED_AT 3 /* one of four */

/* Which greenlet of a thread waits does not change, but may come to be known late. */
static __always_inline void know_waiter(__u32 pid, struct context *ctx)
{
	if (TURN_COUNT(ctx->turn) & TURNS_LOOKED_AT)
		return;

	__u64 runtime = runtime_of(pid);

	if (has_greenlets(runtime))
		ctx->entered = python_greenlet(runtime);
}

#define NAME_JETTY 0x707471 /* qtp12345678-90, of which three letters count */

/* The current thread waits for several connections for the first time: is it an event loop, or one that only takes its turn at that? */
static __always_inline __u8 loop_by_name(void)
{
	__u64 name[2] = {};

	return !bpf_get_current_comm(name, sizeof(name)) && (name[0] & 0xffffff) == NAME_JETTY ? TURN_AT_LOOP : EVENT_LOOP;
}

/*
 * An event loop has waited, for no longer than `limit`: then a timer is due, which it acts on behind what it reads. It has
 * begun to wait after it woke up last. One that did not want to wait has the timers that it had.
 */
static __always_inline void note_timer(struct context *ctx, __u64 limit)
{
	__u32 now = STEPS_OF(bpf_ktime_get_ns());

	if (limit > FAR_OFF)
		ctx->due = 0;
	else if (limit)
		ctx->due = (ctx->woke && limit > SLACK ? ctx->woke + STEPS_OF(limit - SLACK) : now) | 1;
	ctx->woke = now;
}

/* A thread wakes up an event loop of its process: it has left something for it to do. */
static __always_inline void note_woken(__u32 pid)
{
	__u64 runtime = runtime_of(pid);

	if (runtime & (RUNTIME_KNOWN | RUNTIME_WOKEN))
		return;
	set_runtime(pid, runtime | RUNTIME_WOKEN);
}

/* May an event loop have left a call to be made for what it has read, as one does that queues what it has to do? */
static __always_inline int has_left(const struct context *ctx)
{
	return ctx->mixed & (MIXED | AT_ONCE) || (!(ctx->mixed & ACTED) && served_trace(&ctx->now));
}

/*
 * A thread has waited for several connections: what it does next may be for any of them. `always`: that is what it does.
 * `limit`: as wait_limit() tells.
 */
static __always_inline void note_wait(__u32 pid, __u32 tid, int always, __u64 limit)
{
	__u64 execution = tid;
	struct context *ctx = contexts.lookup(&execution);
	int at_once = !limit;

	if (ctx && ctx->pid == pid) {
		ctx->paused = 0;
		if (!ctx->loop && always)
			ctx->loop = loop_by_name();
		if (!ctx->loop)
			return;
		note_timer(ctx, limit);
		if (!at_once || !has_left(ctx)) {
			ctx->first = 0;
			ctx->mixed = 0;
		}
		ctx->now.span = 0;
		ctx->turn = ((ctx->turn | TURN_AT_ONCE) + 1) | at_once;
		know_waiter(pid, ctx);
	} else if (always) {
		struct context new = {.pid = pid, .loop = loop_by_name()};

		note_timer(&new, limit);
		runtime_by_name(pid, runtime_of(pid));
		contexts.update(&execution, &new);
	}
}

/*
 * It is a server's connection on which an event loop has read. Of HTTP/1 it goes on with the request whose body that is, or
 * before which it belongs. `key`: of the connection.
 */
static __always_inline void read_on(struct context *ctx, const struct connection *c, __u64 key)
{
	int same = ctx->now.key == key && ctx->now.span;
	struct served served = {.key = key, .span = c->slot.trace.span};

	if (c->http2) {
		if (ctx->now.stream && !(ctx->mixed & ACTED) && served_trace(&ctx->now))
			ctx->mixed |= READ_ON;
		ctx->now.span = 0;
	} else if (!same) {
		if (c->slot_used && c->requests - c->responses == 1 && c->framers[SIDE_REQUEST].flags & FRAMER_BEGUN)
			go_on_with(ctx, &served);
		else
			ctx->now.span = 0;
	}
}

/* An event loop does something else than what it has read. */
static __always_inline void forget_now(struct context *ctx)
{
	ctx->now.span = 0;
	ctx->mixed |= READ_OTHER;
}

/*
 * A loop makes a call right after a wait, with nothing read, while what it has read last is not answered. So it does not do at once
 * what it is asked for (Twisted writes when a socket says that it has room), and what it reads first may be another one.
 */
static __always_inline int puts_off(const struct context *ctx, __u64 runtime)
{
	__u64 key = ctx->now.key;
	struct connection *c;

	if (!key || ctx->mixed & READ_OTHER || runtime & (RUNTIME_KNOWN | RUNTIME_SWITCHES))
		return 0;
	c = connections.lookup(&key);
	return c && c->slot_used && c->role == ROLE_SERVER;
}

/* A thread has read something; if it is an event loop, it goes on with what that belongs to. `c`, of `key`, may be NULL. */
static __always_inline void note_read(__u32 pid, __u32 tid, struct connection *c, __u64 key)
{
	__u64 execution = tid;
	struct context *ctx = contexts.lookup(&execution);

	if (!ctx || !ctx->loop || ctx->pid != pid)
		return;
	if (c && c->other) {
		key = c->other;
		c = connections.lookup(&key);
	}

	/* one that was never asked is shaking hands: then goes whatever has waited for it, of HTTP/2 maybe of many */
	int answers = c && c->role == ROLE_CLIENT && c->origin.span && c->requests && !c->http2;
	__u64 runtime = runtime_of(pid);

	if (runtime & RUNTIME_PYTHON) {
		__u64 context = own_context(pid, tid, runtime);

		if (context) { /* of which a callback may have been made for something else */
			execution = session_key(pid, context);
			ctx = contexts.lookup(&execution);
			if (ctx && ctx->pid == pid && answers)
				ctx->now = c->origin;
			return;
		}
		if (runtime & RUNTIME_UVLOOP && !python_context(runtime))
			ctx->entered = READ_NOW;
	}
	if (answers)
		go_on_with(ctx, &c->origin);
	else if (c && c->role == ROLE_SERVER)
		read_on(ctx, c, key);
	else
		forget_now(ctx);
}

/* An event loop does something that has nothing to do with what it has read. */
static __always_inline void note_other(__u32 pid)
{
	__u64 execution = (__u32)bpf_get_current_pid_tgid();
	struct context *ctx = contexts.lookup(&execution);

	if (ctx && ctx->loop && ctx->pid == pid)
		forget_now(ctx);
}

/* A connection was accepted: the context goes on with it, and with nothing that was read before. */
static __always_inline void note_accept(__u64 key, __u32 pid)
{
	__u64 runtime = runtime_of(pid);
	__u64 context = runtime & RUNTIME_PYTHON ? python_context(runtime) : 0;

	note_other(pid);
	if (context) {
		struct context new = {.now = {.key = key, .span = SPAN_NEXT}, .pid = pid};
		__u64 execution = session_key(pid, context);

		contexts.update(&execution, &new);
	}
}

#endif
