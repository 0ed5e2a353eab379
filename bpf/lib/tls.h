/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * TLS sessions and their sockets.
 *
 * A session's plaintext is a connection of its own, known by the library's handle; its socket, which carries ciphertext,
 * is found so:
 * - by the system calls within a call of the library, where the library does its own I/O. This is certain;
 * - else, where the program moves the bytes itself (memory BIOs: Node, asyncio): by what the thread read before. A session
 *   that could go on (a handshake that was waiting, plaintext that was read) did so with the bytes that the thread read
 *   last, from a socket that carries TLS and has no session yet.
 */
#ifndef AUTOINSTR_TLS_H
#define AUTOINSTR_TLS_H

/*
 * A session's place in `connections`: its address, without bits in which no two sessions differ, and its process. No
 * struct sock is there: addresses of the kernel begin with ones, and no pid does.
 */
static __always_inline __u64 session_key(__u32 pid, __u64 session)
{
	return (__u64)pid << 42 | (session >> 5 & ((1ULL << 42) - 1));
}

/* A session that nothing is known of. */
static __always_inline struct connection *begin_session(__u64 key)
{
	__u32 zero = 0;
	struct connection *blank = blank_connection.lookup(&zero), *s;

	if (!blank)
		return NULL;
	connections.update(&key, blank);
	s = connections.lookup(&key);
	if (!s)
		return NULL;
	s->session = 1;
	s->slot.protocol = PROTOCOL_HTTP1;
	return s;
}

/* The session belongs to this socket. */
static __always_inline void join_session(__u64 key, __u64 sk, struct connection *c)
{
	struct connection *s = connections.lookup(&key);

	if (s && s->other && s->other != sk) {
		/* another one, at the address of one whose socket the kernel still has */
		if (s->requests != s->responses)
			count(COUNT_LOST_SYNC);
		s = begin_session(key);
	}
	if (!s)
		return;
	c->other = key;
	c->ignored = 1;
	s->other = sk;
	if (s->role == ROLE_UNKNOWN) {
		s->role = c->role;
		s->fresh = c->fresh;
	}
	s->slot.role = s->role;
	s->slot.connection = c->slot.connection;
	s->slot.family = c->slot.family;
	s->slot.local_port = c->slot.local_port;
	s->slot.remote_port = c->slot.remote_port;
	__builtin_memcpy(s->slot.local, c->slot.local, sizeof(s->slot.local));
	__builtin_memcpy(s->slot.remote, c->slot.remote, sizeof(s->slot.remote));
}

/* A goroutine's place in `tls_threads`. No thread's id is that large. */
static __always_inline __u64 thread_of_goroutine(__u32 pid, __u64 goroutine)
{
	return session_key(pid, goroutine);
}

/* How far a stack pointer is from the end of the goroutine's stack: the same after the stack was moved. */
static __always_inline __u64 stack_of_goroutine(__u64 goroutine, __u64 pointer)
{
	__u64 end = 0;

	/* struct g begins with struct stack {lo, hi}: assembly of Go depends on it, too */
	bpf_probe_read_user(&end, sizeof(end), (void *)(goroutine + 8));
	return pointer - end;
}

/* The current goroutine has moved bytes over a socket. It may be in the middle of a call, which then did. */
static __always_inline void meet_session_of_goroutine(struct connection *c, __u64 sk, __u32 pid, const void *registers)
{
	const struct pt_regs *regs = registers;
	__u64 goroutine = 0, stack = 0;

	bpf_probe_read_kernel(&goroutine, sizeof(goroutine), &GOROUTINE(regs));

	__u64 id = thread_of_goroutine(pid, goroutine);
	struct tls_thread *t = tls_threads.lookup(&id);
	if (!t || !t->depth)
		return;

	struct tls_call *call = &t->calls[(t->depth - 1) & (TLS_DEPTH - 1)];
	__u64 key = call->key;
	if (c->other == key)
		return;
	bpf_probe_read_kernel(&stack, sizeof(stack), &regs->sp);
	if (stack_of_goroutine(goroutine, stack) < call->stack)
		join_session(key, sk, c);
}

/* The current task, which uses TLS, has moved bytes over a socket. */
static __always_inline void meet_session(struct connection *c, __u64 sk, __u32 incoming, long ret)
{
	__u64 tid = (__u32)bpf_get_current_pid_tgid();
	__u32 zero = 0;
	struct tls_thread *t = tls_threads.lookup(&tid);

	if (t && t->depth) {
		__u64 key = t->calls[(t->depth - 1) & (TLS_DEPTH - 1)].key;

		if (c->other != key)
			join_session(key, sk, c);
		return;
	}
	if (c->other || !incoming || ret <= 0 || (c->requests && !c->secret))
		return;
	if (!t) {
		struct tls_thread *blank = blank_tls_thread.lookup(&zero);

		if (!blank)
			return;
		tls_threads.update(&tid, blank);
		t = tls_threads.lookup(&tid);
		if (!t)
			return;
	}
	t->last = sk;
}

/* The session went on: with what the thread has read last, if its library did not read by itself. */
static __always_inline void join_last(struct tls_thread *t, struct connection *s, __u64 key)
{
	__u64 sk = t->last;

	if (s->other || !sk)
		return;

	struct connection *c = connections.lookup(&sk);
	if (c && c->secret && !c->other)
		join_session(key, sk, c);
	t->last = 0;
}

#endif
