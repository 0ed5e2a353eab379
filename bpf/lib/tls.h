/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * TLS sessions and their sockets.
 *
 * A session's plaintext is a connection of its own, known by the library's handle; its socket, which carries ciphertext,
 * is found so:
 * - by the system calls within a call of the library, where the library does its own I/O. This is certain, if what they
 *   move is TLS: a callback may ask somebody else in the middle of a handshake;
 * - else, where the program moves the bytes itself (memory BIOs: Node, asyncio): by what the thread read before. Whoever
 *   has read ciphertext hands it to its session at once, so the next session that goes on is that of the socket that was
 *   read. Where two sockets were read before any session went on, nothing is concluded; there will be another read.
 */
#ifndef AUTOINSTR_TLS_H
#define AUTOINSTR_TLS_H

#define EPIPE 32
#define ECONNRESET 104

/* `other` of a socket whose session is over, and `last` of a thread that has read from several; no key is that small. */
#define SESSION_OVER 1
#define SOCKETS_SEVERAL 1

/* A session of which nothing is known yet. */
static __always_inline struct connection *new_session(__u64 key)
{
	zero_key zero = 0;
	struct connection *s, *blank = blank_connection.lookup((__u32 *)&zero);

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

/* Does its socket know of it? */
static __always_inline int is_joined(const struct connection *s, __u64 key)
{
	__u64 sk = s->other;
	struct connection *c = sk ? connections.lookup(&sk) : NULL;

	return c && c->other == key;
}

/* The session belongs to this socket. */
static __always_inline void join_session(__u64 key, __u64 sk, struct connection *c)
{
	__u64 before = c->other;
	struct connection *s = connections.lookup(&key), *parents = before ? connections.lookup(&before) : NULL;

	if (!s)
		return;
	if (parents && parents->other == sk && ((before ^ key) & SESSION_MASK) == 0) {
		/* the same one, in a child that goes on with it */
		connections.update(&key, parents);
		connections.delete(&before);
		s = connections.lookup(&key);
	} else if ((s->other && s->other != sk) || (c->fresh && s->role && s->role != c->role)) {
		/* another one at the address of one whose end was not seen; or its role was guessed, and wrongly */
		s = new_session(key);
	}
	if (!s)
		return;
	c->other = key;
	c->ignored = 1;
	s->other = sk;
	if (c->fresh) { /* else its role is a guess, from ciphertext */
		s->role = c->role;
		s->fresh = !s->late;
	}
	s->slot.role = s->role;
	s->slot.connection = c->slot.connection;
	s->slot.family = c->slot.family;
	s->slot.local_port = c->slot.local_port;
	s->slot.remote_port = c->slot.remote_port;
	__builtin_memcpy(s->slot.local, c->slot.local, sizeof(s->slot.local));
	__builtin_memcpy(s->slot.remote, c->slot.remote, sizeof(s->slot.remote));
}

/* Notes whether what a call has moved begins with a TLS record. */
static __always_inline void note_record(struct connection *c, const struct syscall *call, enum transfer transfer, long ret)
{
	__u64 base = call->args[1], word = 0;
	struct user_vector v;

	if (ret < 2)
		return;
	if (transfer == TRANSFER_MESSAGE) {
		if (bpf_probe_read_user(&v, sizeof(v), (void *)(base + 16)))
			return;
		base = v.base;
	}
	if (transfer == TRANSFER_MESSAGE || transfer == TRANSFER_VECTOR) {
		if (bpf_probe_read_user(&v, sizeof(v), (void *)base))
			return;
		base = v.base;
	} else if (transfer != TRANSFER_BUFFER) {
		return;
	}
	if (!bpf_probe_read_user(&word, 2, (void *)base) && is_tls_record(word))
		c->secret = 1;
}

/* The socket of a session failed, or (0) a read from it has come to its end: so has a response that ends with the connection. */
static __always_inline void end_session(const struct connection *c, __u32 incoming, long ret)
{
	__u64 key = c->other;
	struct connection *s = key ? connections.lookup(&key) : NULL;

	if (s && ret < 0)
		s->error = -ret;
	else if (s && incoming && s->role == ROLE_CLIENT)
		s->closed = bpf_ktime_get_ns();
}

/* The other end is gone: what is written into the session from now on goes nowhere. */
static __always_inline int is_gone(const struct connection *s)
{
	return s->error == ECONNRESET || s->error == EPIPE;
}

/*
 * What is written is looked at as soon as all of it is on its way: a server may be killed before the call returns, when the
 * other end has its response already, and who is asked may go on to ask others. One record holds so many bytes, and is
 * larger than they are by at least as much as this: its head and its tag.
 */
#define MAX_WHOLE (16 << 10)
#define LEAST_OVERHEAD 21

/*
 * In the middle of a call, bytes were moved over a socket: the session's, if it is TLS. Returns the call, if it is a write
 * and all that it is to write has been moved now.
 */
static __always_inline struct tls_call *join_call(struct tls_call *within, struct connection *c, __u64 sk,
						  const struct syscall *call, enum transfer transfer, __u32 incoming,
						  long ret)
{
	if (ret > 0 && incoming == (within->kind == TLS_READ))
		within->passed = bpf_ktime_get_ns();
	if (c->other == within->key) {
		if (ret <= 0 || incoming || !within->size)
			return NULL;
		within->sent += ret;
		return within->sent >= within->size + LEAST_OVERHEAD ? within : NULL;
	}
	if (!c->secret)
		note_record(c, call, transfer, ret);
	if (c->secret)
		join_session(within->key, sk, c);
	return NULL;
}

/* A goroutine's place in `tls_threads`. No thread's id is that large. */
static __always_inline __u64 thread_of_goroutine(__u32 pid, __u64 goroutine)
{
	return session_key(pid, goroutine);
}

/* struct g begins with it: assembly of Go depends on that, too */
struct go_stack {
	__u64 begin, end;
};

static __always_inline struct go_stack stack_of_goroutine(__u64 goroutine)
{
	struct go_stack stack = {};

	bpf_probe_read_user(&stack, sizeof(stack), (void *)goroutine);
	return stack;
}

/* The current goroutine has moved bytes over a socket. It may be in the middle of a call, which then did; as join_call. */
static __always_inline struct tls_call *meet_session_of_goroutine(struct connection *c, __u64 sk, __u32 pid,
								  const void *registers, const struct syscall *call,
								  enum transfer transfer, __u32 incoming, long ret)
{
	const struct pt_regs *regs = registers;
	__u64 goroutine = 0, stack = 0;

	bpf_probe_read_kernel(&goroutine, sizeof(goroutine), &GOROUTINE(regs));

	__u64 id = thread_of_goroutine(pid, goroutine);
	struct tls_thread *t = tls_threads.lookup(&id);
	if (!t || !t->depth)
		return NULL;

	struct tls_call *within = &t->calls[(t->depth - 1) & (TLS_DEPTH - 1)];
	bpf_probe_read_kernel(&stack, sizeof(stack), &regs->sp);
	/* else what was entered has never returned: a panic went past it */
	if (stack - stack_of_goroutine(goroutine).end >= within->stack)
		return NULL;
	return join_call(within, c, sk, call, transfer, incoming, ret);
}

/* A thread or goroutine that uses TLS; by its place in `tls_threads`. */
static __always_inline struct tls_thread *this_thread(__u64 tid)
{
	zero_key zero = 0;
	struct tls_thread *t = tls_threads.lookup(&tid), *blank = blank_tls_thread.lookup((__u32 *)&zero);

	if (t || !blank)
		return t;
	tls_threads.update(&tid, blank);
	return tls_threads.lookup(&tid);
}

/* The current task, which uses TLS, has moved bytes over a socket; as join_call. */
static __always_inline struct tls_call *meet_session(struct connection *c, __u64 sk, const struct syscall *call,
						     enum transfer transfer, __u32 incoming, long ret)
{
	__u64 tid = (__u32)bpf_get_current_pid_tgid();
	struct tls_thread *t = tls_threads.lookup(&tid);

	if (t && t->depth)
		return join_call(&t->calls[(t->depth - 1) & (TLS_DEPTH - 1)], c, sk, call, transfer, incoming, ret);
	if (!incoming || ret <= 0)
		return NULL;
	if (c->other) {
		if (t && t->last)
			t->last = 0;
		return NULL;
	}
	if (!c->secret && !c->requests)
		note_record(c, call, transfer, ret);
	if (!c->secret)
		return NULL;
	t = this_thread(tid);
	if (t)
		t->last = t->last && t->last != sk ? SOCKETS_SEVERAL : sk;
	return NULL;
}

/* A session goes on: with what the thread has read last, if its library did not read by itself. */
static __always_inline void join_last(struct tls_thread *t, struct connection *s, __u64 key, int known)
{
	__u64 sk = t->last;

	if (!sk)
		return;
	t->last = 0;

	struct connection *c = connections.lookup(&sk);
	if (!c || c->other || is_joined(s, key))
		return;
	if (!known && c->role == ROLE_CLIENT)
		return; /* a client speaks first: nothing was read for a new one yet */
	join_session(key, sk, c);
}

#endif
