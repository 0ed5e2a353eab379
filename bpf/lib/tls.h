/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * TLS sessions and their sockets.
 *
 * A session's plaintext is a connection of its own, known by the library's handle; its socket, which carries ciphertext,
 * is found so:
 * - by the system calls within a call of the library, where the library does its own I/O. This is certain, if what they
 *   move is TLS: a callback may ask somebody else in the middle of a handshake;
 * - else, where the program moves the bytes itself into OpenSSL's own memory BIO (Python): by what lies there when the
 *   session goes on. Other sessions may do so first (anyio, Trio), and in another thread. This is certain, too: no two
 *   records are alike;
 * - else, where the library's memory is the program's own (Node): by what the thread read before. Whoever has read
 *   ciphertext hands it to its session at once, so the next session that goes on is that of the socket that was read. Where
 *   two sockets were read before any session went on, nothing is concluded; there will be another read.
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

/* Where what a call has moved begins; 0: not known. */
static __always_inline __u64 first_buffer(const struct syscall *call, enum transfer transfer)
{
	__u64 base = call->args[1];
	struct user_vector v;

	if (transfer == TRANSFER_BUFFER)
		return base;
	if (transfer == TRANSFER_MESSAGE) {
		if (bpf_probe_read_user(&v, sizeof(v), (void *)(base + 16)))
			return 0;
		base = v.base;
	}
	if (transfer != TRANSFER_MESSAGE && transfer != TRANSFER_VECTOR)
		return 0;
	return bpf_probe_read_user(&v, sizeof(v), (void *)base) ? 0 : v.base;
}

/* Notes whether what a call has moved begins with a TLS record. */
static __always_inline void note_record(struct connection *c, const struct syscall *call, enum transfer transfer, long ret)
{
	__u64 base = ret < 2 ? 0 : first_buffer(call, transfer), word = 0;

	if (base && !bpf_probe_read_user(&word, 2, (void *)base) && is_tls_record(word))
		c->secret = 1;
}

/*
 * Ciphertext is known by the bytes in which records differ: behind what ServerHello and ClientHello begin with, and as far
 * as into the session's id, since a ServerHello that asks for another ClientHello has the same "random" each time.
 */
#define CIPHERTEXT_AT 8
#define CIPHERTEXT_WORDS 6
#define CIPHERTEXT_SIZE (CIPHERTEXT_AT + 8 * CIPHERTEXT_WORDS)

/* 0: it can't be read. Processes that pass it on to each other have the same. */
static __always_inline __u64 ciphertext_key(__u64 base, __u32 pid)
{
	__u64 words[CIPHERTEXT_WORDS], key = pid;

	if (bpf_probe_read_user(words, sizeof(words), (void *)(base + CIPHERTEXT_AT)))
		return 0;
#pragma unroll
	for (int i = 0; i < CIPHERTEXT_WORDS; i++) {
		key = (key ^ words[i]) * 0x9e3779b97f4a7c15ULL;
		key ^= key >> 32;
	}
	return key;
}

/* Ciphertext was read off a socket without a session. */
static __always_inline void note_ciphertext(const struct connection *c, __u64 sk, __u64 base, __u32 pid)
{
	struct ciphertext read = {sk, c->slot.connection}, *before;
	__u64 key = ciphertext_key(base, pid);

	if (!key)
		return;
	before = ciphertexts.lookup(&key);
	if (before && before->sk != sk)
		read.sk = SOCKETS_SEVERAL;
	ciphertexts.update(&key, &read);
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
static __always_inline struct tls_call *meet_session(struct connection *c, __u64 sk, __u32 pid, const struct syscall *call,
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
	__u64 base = ret < CIPHERTEXT_SIZE ? 0 : first_buffer(call, transfer);
	if (base)
		note_ciphertext(c, sk, base, pid);
	t = this_thread(tid);
	if (t)
		t->last = t->last && t->last != sk ? SOCKETS_SEVERAL : sk;
	return NULL;
}

/*
 * What lies in the memory BIO out of which a session of OpenSSL reads. Its struct ssl_st has that BIO at one of two places
 * (1.1 to 3.1; 3.2 and newer); struct bio_st begins with its method (1.1), or with a pointer and its method (3), and has
 * what is the method's own as far behind that. That it is such a BIO is told by the method's name: Node's own one has
 * the same type. Wherever else this leads, what lies there is no ciphertext that was read.
 */
#define BIO_NAME 0x622079726f6d656dULL /* "memory b(uffer)" */
#define BIO_OWN_BEHIND_METHOD 56

struct unread {
	__u64 size, base; /* BUF_MEM: length, data */
};

static __always_inline int find_unread(__u64 ssl, struct unread *unread)
{
#pragma unroll
	for (int place = 0x10; place <= 0x50; place += 0x40) {
		__u64 bio = 0, start[2] = {}, own = 0, buffer = 0;

		if (bpf_probe_read_user(&bio, sizeof(bio), (void *)(ssl + place)) ||
		    bpf_probe_read_user(start, sizeof(start), (void *)bio))
			continue;
#pragma unroll
		for (int i = 0; i < 2; i++) {
			__u64 text = 0, name = 0;

			if (bpf_probe_read_user(&text, sizeof(text), (void *)(start[i] + 8)) ||
			    bpf_probe_read_user(&name, sizeof(name), (void *)text) || name != BIO_NAME)
				continue;
			/* struct bio_buf_mem_st: what it has in all, and what of that is still to be read */
			return !bpf_probe_read_user(&own, sizeof(own), (void *)(bio + 8 * i + BIO_OWN_BEHIND_METHOD)) &&
			       !bpf_probe_read_user(&buffer, sizeof(buffer), (void *)(own + 8)) &&
			       !bpf_probe_read_user(unread, sizeof(*unread), (void *)buffer);
		}
	}
	return 0;
}

/* Which socket was that read off? 0: not known. */
static __always_inline __u64 socket_of_unread(const struct unread *unread, __u32 pid)
{
	__u64 key = unread->size < CIPHERTEXT_SIZE ? 0 : ciphertext_key(unread->base, pid);
	struct ciphertext *read = key ? ciphertexts.lookup(&key) : NULL;
	__u64 sk = read ? read->sk : 0;
	struct connection *c = sk ? connections.lookup(&sk) : NULL;

	return c && c->slot.connection == read->connection ? sk : 0;
}

/* A session goes on, whose library may not have read by itself: with what it was handed, or what the thread has read last. */
static __always_inline void join_read(struct tls_thread *t, struct connection *s, __u64 key, __u64 ssl, __u32 pid, int known)
{
	__u64 sk = t->last;
	struct unread unread = {};

	if (!sk && s->other)
		return;
	t->last = 0;
	if (is_joined(s, key))
		return;

	int certain = find_unread(ssl, &unread);
	if (certain)
		sk = socket_of_unread(&unread, pid);
	if (!sk)
		return;

	struct connection *c = connections.lookup(&sk);
	if (!c || c->other)
		return;
	if (!certain && !known && c->role == ROLE_CLIENT)
		return; /* a client speaks first: nothing was read for a new one yet */
	join_session(key, sk, c);
}

#endif
