/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * How processes work, as far as that tells whom their calls are made for: user space knows of some, and others show it by
 * what they do, or by names of their threads.
 */
#ifndef AUTOINSTR_RUNTIMES_H
#define AUTOINSTR_RUNTIMES_H

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

/* As runtime_of(), where it is asked with each request. */
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

/* All bits if they differ, none if not: with one way for the verifier, where a comparison has two. */
static __always_inline __u64 differ(__u64 one, __u64 other)
{
	__u64 difference = one ^ other, negative = -difference;

	asm volatile("" : "+r"(negative));
	return -((difference | negative) >> 63);
}

/* The current thread was not met yet. Known by its name it is known before anything has gone wrong. */
static __always_inline __u64 runtime_by_name(__u32 pid, __u64 runtime)
{
	__u64 name[2] = {}, begins;

	if (runtime & (RUNTIME_KNOWN | RUNTIME_SWITCHES) || bpf_get_current_comm(name, sizeof(name)))
		return runtime;
	begins = name[0];
	if (differ(begins, NAME_JAVA) & differ(begins, NAME_TOKIO) & differ(begins, NAME_TOKIO_OLD) & differ(begins, NAME_DOTNET) &
	    differ(begins, NAME_ERLANG) & differ(begins, NAME_NETTY) & differ(begins, NAME_NETTY_EPOLL) &
	    differ(begins, NAME_NETTY_4_2) & differ(begins, NAME_REACTOR) & differ(begins, NAME_VERTX))
		return runtime;
	return note_switches(pid, runtime, 0);
}

static __always_inline int switches(__u64 runtime)
{
	return runtime & RUNTIME_SWITCHES && !(runtime & RUNTIME_KNOWN);
}

#endif
