/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A request's place in a trace: whose child it is.
 *
 * Inside a process: a call is made for the request that the same thread or goroutine serves. One that waits for several
 * connections at a time (an event loop) serves what it has read last, until it waits again; a response that it reads
 * brings it back to what the call was made for. Where that is not certain there is no parent: none is better than a wrong
 * one.
 *
 * Between processes: both ends of a TCP connection know its two initial sequence numbers, whatever lies between them
 * (address translation, network namespaces, TLS). Under them a client leaves what it asks (an offer), and the server, if
 * it is watched by the same agent, finds it there. No byte on the wire is changed.
 */
#ifndef AUTOINSTR_TRACE_H
#define AUTOINSTR_TRACE_H

/* Spreads what a word holds over all of its bits (the finaliser of SplitMix64). */
static __always_inline __u64 spread(__u64 value)
{
	value = (value ^ value >> 30) * 0xbf58476d1ce4e5b9ULL;
	value = (value ^ value >> 27) * 0x94d049bb133111ebULL;
	return value ^ value >> 31;
}

/*
 * A number that no other request has: each CPU goes its own way from where chance has put it (SplitMix64). Who takes a
 * task's place in the middle of it has another time.
 */
static __always_inline __u64 new_number(__u64 time)
{
	zero_key zero = 0;
	struct work_owners *cpu = work_owners.lookup((__u32 *)&zero);

	if (!cpu)
		return 0;
	if (!cpu->number)
		cpu->number = (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
	cpu->number += 0x9e3779b97f4a7c15ULL;
	return spread(cpu->number ^ time);
}

/* A request begins, in a trace of its own until more is known. */
static __always_inline void begin_trace(struct trace *t, __u64 time)
{
	__u64 span = new_number(time);

	span += !span;
	t->span = span;
	t->id[0] = spread(span ^ time);
	t->id[1] = spread(span) | 1; /* an id of zeros is none */
	t->parent = 0;
	t->peer = 0;
	t->flags = 0;
}

static __always_inline __u64 runtime_of(__u32 pid)
{
	__u64 *flags = runtimes.lookup(&pid);

	return flags ? *flags : 0;
}

/* `runtimes` is not what it was. */
static __always_inline void note_runtime(void)
{
	zero_key zero = 0;
	struct made *m = made.lookup((__u32 *)&zero);

	if (m)
		__sync_fetch_and_add(&m->runtimes, 1);
}

static __always_inline void set_runtime(__u32 pid, __u64 runtime)
{
	runtimes.update(&pid, &runtime);
	note_runtime();
}

static __always_inline void forget_runtime(__u32 pid)
{
	runtimes.delete(&pid);
	note_runtime();
}

/* Is what the work remembers of its process still so? `now`: how often anything was told of any. */
static __always_inline int knows_runtime(const struct work *w, __u32 *now)
{
	zero_key zero = 0;
	struct made *m = made.lookup((__u32 *)&zero);
	struct control *told = control.lookup((__u32 *)&zero);

	if (!m || !told)
		return 0;
	*now = m->runtimes + told->runtimes;
	return w->known_pid == w->pid && w->known_at == *now;
}

/* The same, where it is asked with each request. */
static __always_inline __u64 runtime_of_server(struct work *w)
{
	__u32 now = 0;

	if (!knows_runtime(w, &now)) {
		w->known_runtime = runtime_of(w->pid);
		w->known_pid = w->pid;
		w->known_at = now;
	}
	return w->known_runtime;
}

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

static __always_inline void say_why(struct trace *t, enum orphan why)
{
	t->flags = (t->flags & ~TRACE_ORPHAN_MASK) | why << TRACE_ORPHAN_SHIFT;
}

/* It is not certain what this call is made for. */
static __always_inline struct trace *unsure_parent(struct trace *t, struct served *found, enum orphan why)
{
	found->span = 0;
	say_why(t, why);
	return NULL;
}

/*
 * Threads of some runtimes go on with another task where one has to wait (virtual threads of Java, tokio, .NET, Erlang): what such
 * a thread has read says nothing of what it does next. They are told by what no other thread does: it finds nothing to read
 * while it serves something, and goes on with another socket without a wait; or an event loop answers what another one
 * of the process has read.
 */
#define RUNTIME_KNOWN (RUNTIME_GO | RUNTIME_PYTHON | RUNTIME_IN_ORDER | RUNTIME_LOOPS) /* who does what is told otherwise, or certain */

/* `several`: it serves more than one request at a time. */
static __always_inline __u64 note_switches(__u32 pid, __u64 runtime, int several)
{
	struct lender *lender, new = {};

	runtime |= RUNTIME_SWITCHES;
	lenders.insert(&pid, &new); /* another of its threads may be here, too */
	lender = lenders.lookup(&pid);
	if (lender && several)
		lender->several = 1;
	set_runtime(pid, runtime);
	return runtime;
}

/* Names of such threads: how they begin. */
#define NAME_JAVA 0x6e696f4a6b726f46ULL  /* ForkJoinPool-1-worker-1 */
#define NAME_TOKIO 0x74722d6f696b6f74ULL /* tokio-rt-worker */
#define NAME_TOKIO_OLD 0x75722d6f696b6f74ULL /* tokio-runtime-worker */
#define NAME_DOTNET 0x2050542054454e2eULL /* .NET TP Worker */
#define NAME_ERLANG 0x6863735f73747265ULL /* erts_sched_1 */
/* event loops of Netty, which hand each other what is to be called */
#define NAME_NETTY 0x746e6576456f696eULL   /* nioEventLoopGroup-2-1 */
#define NAME_NETTY_EPOLL 0x6576456c6c6f7065ULL /* epollEventLoopGroup-2-1 */
#define NAME_NETTY_4_2 0x72685469746c756dULL /* multiThreadIoEventLoopGroup-2-1 */
#define NAME_REACTOR 0x2d726f7463616572ULL /* reactor-http-nio-1 */
#define NAME_VERTX 0x652d782e74726576ULL   /* vert.x-eventloop-thread-0 */

/* The current thread was not met yet. Known by its name it is known before anything has gone wrong. */
static __always_inline __u64 runtime_by_name(__u32 pid, __u64 runtime)
{
	__u64 name[2] = {}, begins;

	if (runtime & (RUNTIME_KNOWN | RUNTIME_SWITCHES) || bpf_get_current_comm(name, sizeof(name)))
		return runtime;
	begins = name[0];
	if (begins != NAME_JAVA && begins != NAME_TOKIO && begins != NAME_TOKIO_OLD && begins != NAME_DOTNET &&
	    begins != NAME_ERLANG && begins != NAME_NETTY && begins != NAME_NETTY_EPOLL && begins != NAME_NETTY_4_2 &&
	    begins != NAME_REACTOR && begins != NAME_VERTX)
		return runtime;
	return note_switches(pid, runtime, 0);
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

static __always_inline int switches(__u64 runtime)
{
	return runtime & RUNTIME_SWITCHES && !(runtime & RUNTIME_KNOWN);
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
 * when all is answered does so while it serves something, too.
 */
static __always_inline struct trace *find_only(__u32 pid, struct trace *t, struct served *found)
{
	struct lender *lender = lenders.lookup(&pid);
	struct trace *parent;

	if (!lender || lender->several)
		return unsure_parent(t, found, ORPHAN_SEVERAL);
	*found = lender->newest;
	parent = served_trace(found);
	if (!parent && found->span)
		lender->several = 1;
	return parent;
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

/* What a call is made for, if that is certain; returns its place, or NULL. */
static __always_inline struct trace *find_parent(const struct connection *c, __u64 sock, struct caller by, struct trace *t,
						 struct served *found)
{
	__u64 runtime = runtime_of(by.pid);
	__u64 execution = execution_of(by.pid, by.tid, by.goroutine, runtime);
	struct context *ctx = contexts.lookup(&execution);

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

/* What both ends of a connection know it by; 0: nothing. */
static __always_inline __u64 pair_of(const struct connection *c, __u64 sk)
{
	if (!sk || c->role == ROLE_UNKNOWN)
		return 0;
	if (c->slot.family == FAMILY_UNIX) {
#ifdef OFFSET_unix_sock_peer
		return c->role == ROLE_CLIENT ? kernel_u64(sk + OFFSET_unix_sock_peer) : sk;
#else
		return 0;
#endif
	}

	sk = first_tcp_of(sk);
	if (!sk || is_connecting(sk))
		return 0;

	__u32 sent = kernel_u32(sk + OFFSET_tcp_sock_snd_una) - (__u32)kernel_u64(sk + OFFSET_tcp_sock_bytes_acked);
	__u32 got = kernel_u32(sk + OFFSET_tcp_sock_rcv_nxt) - (__u32)kernel_u64(sk + OFFSET_tcp_sock_bytes_received);

	/* a client's SYN counts as acknowledged, and nothing else of the handshake is counted */
	return c->role == ROLE_CLIENT ? (__u64)(sent + 1) << 32 | got : (__u64)got << 32 | sent;
}

static __always_inline void know_pair(struct connection *c, __u64 key)
{
	if (!c->pair)
		c->pair = pair_of(c, c->session ? c->other : key);
}

/* The trace goes on: as the one before, under it. */
static __always_inline void continue_trace(struct trace *t, const struct trace *before, __u32 how)
{
	t->id[0] = before->id[0];
	t->id[1] = before->id[1];
	t->parent = before->span;
	t->flags |= how | (before->flags & (TRACE_SAMPLED | TRACE_DECIDED));
}

/* A call is a child of `parent`, if there is one, which is at `found`. */
static __always_inline void become_child(struct trace *t, struct trace *parent, struct served *found)
{
	if (parent) {
		parent->flags |= TRACE_USED;
		continue_trace(t, parent, TRACE_INSIDE);
		return;
	}
	if (!(t->flags & TRACE_ORPHAN_MASK))
		say_why(t, found->span ? ORPHAN_ANSWERED : ORPHAN_NOBODY);
	found->span = 0;
}

/* Both ends of a request are met: the server's has its parent, and knows who that is. */
static __always_inline void join_ends(struct trace *served, const struct trace *call, __u32 client)
{
	served->peer = client;
	continue_trace(served, call, TRACE_PEER | (call->flags & TRACE_KEPT));
}

/* The client has left a call. */
static __always_inline void take_offer(struct trace *t, struct offer *offer, __u32 pid)
{
	struct trace *call = served_trace(&offer->request);

	join_ends(t, &offer->trace, offer->trace.peer);
	if (call)
		call->peer = pid;
	offer->state = OFFER_TAKEN;
}

/* The server has met the request already: it gets its parent now, if nothing has been done in its own trace. */
static __always_inline void answer_offer(struct trace *t, struct offer *offer, __u32 pid)
{
	struct trace *served = served_trace(&offer->request);

	t->peer = offer->trace.peer;
	if (served && !served->parent && !(served->flags & TRACE_USED))
		join_ends(served, t, pid);
	else if (served && !served->parent)
		say_why(served, ORPHAN_CALLER_UNSURE);
	offer->state = OFFER_TAKEN;
}

/* Leaves something for the other end. */
static __always_inline void leave_offer(struct offer *offer, const struct trace *t, const struct served *request,
					__u32 number, __u32 pid, __u8 state)
{
	offer->trace = *t;
	offer->trace.peer = pid;
	offer->request = *request;
	offer->number = number;
	offer->state = state;
}

/* The offers of a connection, made if need be. */
static __always_inline struct offers *offers_of(const struct connection *c)
{
	__u64 pair = c->pair;
	zero_key zero = 0;
	struct offers *all = offers.lookup(&pair), *blank = blank_offers.lookup((__u32 *)&zero);

	if (all || !blank)
		return all;
	offers.update(&pair, blank);

	struct made *m = made.lookup((__u32 *)&zero);
	if (m)
		__sync_fetch_and_add(&m->offers, 1);
	return offers.lookup(&pair);
}

/* The call that was left for the request with this number; NULL: there is none, or it is not certain which. */
static __always_inline struct offer *find_call(struct connection *c, struct trace *t, __u32 number)
{
	__u64 pair = c->pair;
	zero_key zero = 0;
	struct made *m = made.lookup((__u32 *)&zero);

	if (!m || !pair || c->unasked == m->offers + 1)
		return NULL;

	__u32 now = m->offers + 1;

	struct offers *all = offers.lookup(&pair);
	if (!all) {
		c->unasked = now;
		return NULL;
	}

	int numbered = all->fresh && c->fresh;
	struct offer *offer = &all->offers[(numbered ? number : all->last) & (OFFERS - 1)];

	if (offer->state == OFFER_CALL && (numbered ? offer->number == number : all->single))
		return offer;
	if (all->called)
		say_why(t, ORPHAN_CALLER_UNSURE);
	return NULL;
}

/* A server has met a request that its client may not have told of yet. */
static __always_inline void wait_for_call(const struct connection *c, const struct trace *t, const struct served *request,
					  __u32 number, __u32 pid)
{
	struct offers *all = c->pair && c->fresh ? offers_of(c) : NULL;

	if (all)
		leave_offer(&all->offers[number & (OFFERS - 1)], t, request, number, pid, OFFER_WAITS);
}

static __always_inline void make_call(const struct connection *c, struct trace *t, const struct served *request,
				      __u32 number, __u32 pid)
{
	struct offers *all = c->pair ? offers_of(c) : NULL;

	if (!all)
		return;

	struct offer *offer = &all->offers[number & (OFFERS - 1)];

	all->last = number;
	all->fresh = c->fresh;
	all->called = 1;
	all->single = c->requests - c->responses == 1;
	if (offer->state == OFFER_WAITS && offer->number == number && c->fresh)
		answer_offer(t, offer, pid);
	else
		leave_offer(offer, t, request, number, pid, OFFER_CALL);
}

/*
 * Is anybody to be met at the other end, who is a target, too? A client that is one says so, by an offer for no stream; a
 * server takes it that one may come while the connection is new.
 */
static __always_inline int is_met(const struct connection *c, int is_new)
{
	struct stream_pair key = {.pair = c->pair};
	struct offer here = {};

	if (!c->pair || (c->role == ROLE_SERVER && is_new))
		return c->pair != 0;
	if (stream_offers.lookup(&key))
		return 1;
	if (c->role == ROLE_CLIENT)
		stream_offers.update(&key, &here);
	return c->role == ROLE_CLIENT;
}

/*
 * One end of a connection has met a stream. What it leaves for the other one goes in only if there is nothing yet: both may
 * be here at the same time, on two CPUs, and then one of them finds what the other has left.
 */
static __always_inline void meet_stream(const struct connection *c, struct trace *t, const struct served *request, __u32 pid,
					int is_new)
{
	if (!is_met(c, is_new))
		return;

	struct stream_pair key = {.pair = c->pair, .stream = request->stream};
	int is_server = c->role == ROLE_SERVER;
	struct offer new = {};

	leave_offer(&new, t, request, 0, pid, is_server ? OFFER_WAITS : OFFER_CALL);
	if (!stream_offers.insert(&key, &new))
		return;

	struct offer *offer = stream_offers.lookup(&key);
	if (!offer || offer->state != (is_server ? OFFER_CALL : OFFER_WAITS))
		return;
	if (is_server)
		take_offer(t, offer, pid);
	else
		answer_offer(t, offer, pid);
	stream_offers.delete(&key);
}

/* Eight hexadecimal digits, as W3C trace context has them, as the four bytes that they stand for. `bad`: set if they are none. */
static __always_inline __u32 read_hex(__u64 digits, __u64 *bad)
{
	__u64 letter = digits >> 6 & ONES, low = digits & 15 * ONES;

	*bad |= (digits >> 4 & 15 * ONES) ^ (3 * ONES + 3 * letter);           /* 0x30.., or 0x60.. */
	*bad |= (low + 6 * ONES + 3 * letter) & 16 * ONES;                      /* at most 9, or f */
	*bad |= ~(low + 15 * ONES) & 16 * letter;                               /* at least a */
	low += 9 * letter;
	low = (low << 4 | low >> 8) & 0x00ff00ff00ff00ffULL;
	low = (low | low >> 8) & 0x0000ffff0000ffffULL;
	return low | low >> 16;
}

/* The value of a traceparent field: 00-<trace>-<span>-<flags>. */
struct trace_text {
	__u8 version[3], id[32], dash, span[16], flags[3], end;
};

/* What it says, and whether it is valid. `after`: the byte behind it, or 0. */
static __always_inline int read_text(const struct trace_text *text, __u64 after, struct trace *t)
{
	__u64 words[6], bad = 0;
	__u32 version, flags;

	__builtin_memcpy(words, text->id, 32);
	__builtin_memcpy(words + 4, text->span, 16);
	version = read_hex(0x3030303030300000ULL | text->version[0] | text->version[1] << 8, &bad) & 0xff;
	flags = read_hex(0x3030303030300000ULL | text->flags[1] | text->flags[2] << 8, &bad) & 0xff;
	t->id[0] = read_hex(words[0], &bad) | (__u64)read_hex(words[1], &bad) << 32;
	t->id[1] = read_hex(words[2], &bad) | (__u64)read_hex(words[3], &bad) << 32;
	t->span = read_hex(words[4], &bad) | (__u64)read_hex(words[5], &bad) << 32;
	t->flags = TRACE_DECIDED | (flags & TRACE_SAMPLED);
	bad |= (text->version[2] ^ '-') | (text->dash ^ '-') | (text->flags[0] ^ '-');
	if (bad || version == 0xff || !(t->id[0] | t->id[1]) || !t->span)
		return 0;
	/* a later version may go on behind a dash (section 4.3 of the recommendation) */
	return after < 33 || (after == '-' && version);
}

/* The same, of a request whose head has such a field. */
static __always_inline int read_traceparent(const struct exchange *x, struct trace *t)
{
	struct trace_text text = {};
	__u64 at = x->traceparent, after = 0;

	if (!at || at > HEAD_SIZE - TRACEPARENT_SIZE)
		return 0;
	bpf_probe_read_kernel(&text, TRACEPARENT_SIZE, x->head + at);
	if (at + TRACEPARENT_SIZE < x->head_size && at + TRACEPARENT_SIZE < HEAD_SIZE)
		bpf_probe_read_kernel(&after, 1, x->head + at + TRACEPARENT_SIZE);
	return read_text(&text, after, t);
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

static __always_inline int is_same_trace(const struct trace *one, const struct trace *other)
{
	return one->id[0] == other->id[0] && one->id[1] == other->id[1];
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
	if (!offer && c->session)
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
