/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Functions of TLS libraries: f(session, buffer, size) returns how many bytes it moved, or (f_ex) 1 and writes that to
 * where its fourth argument points. One program a shape; which function of which library has which shape is known to
 * autoinstr/libraries/.
 */
#ifndef AUTOINSTR_PROBES_TLS_H
#define AUTOINSTR_PROBES_TLS_H

/* The process is a target, which uses TLS from now on. */
static __always_inline int is_tls_target(__u32 pid, __u8 flag)
{
	__u8 *target = hit_of_watched(pid);

	if (!target)
		return 0;
	if (!(*target & flag))
		*target |= flag;
	return 1;
}

/* A function is called. Returns the session, which may be new; NULL: the call is not followed. */
static __always_inline struct connection *enter_session(struct tls_thread *t, struct tls_call *entered)
{
	/* calls that never returned: an exception went past them */
	if (t->depth == 2 && t->calls[1].stack <= entered->stack)
		t->depth = 1;
	if (t->depth == 1 && t->calls[0].stack <= entered->stack)
		t->depth = 0;
	if (t->depth >= TLS_DEPTH)
		return NULL;

	__u64 key = entered->key;
	struct connection *s = connections.lookup(&key);

	entered->known = s != NULL;
	entered->looked = t->depth == 1 && t->calls[0].key == key && t->calls[0].kind == TLS_FLUSH;
	if (!s || entered->looked)
		entered->size = 0;
	if (!s)
		s = new_session(key);
	if (!s)
		return NULL;
	t->calls[t->depth & (TLS_DEPTH - 1)] = *entered;
	t->depth++;
	return s;
}

/* A function returns: which call of it was that? NULL: its entry was not seen. */
static __always_inline struct tls_call *leave_session(struct tls_thread *t, __u64 stack)
{
	if (!t)
		return NULL;
	if (t->depth == 2 && t->calls[1].stack != stack)
		t->depth = 1;
	if (!t->depth || t->depth > TLS_DEPTH)
		return NULL;
	t->depth--;

	struct tls_call *call = &t->calls[t->depth & (TLS_DEPTH - 1)];
	return call->stack == stack ? call : NULL;
}

/* Of a write: is it to be looked at before it returns? */
static __always_inline __u64 to_look_at(__u64 size)
{
	return size <= MAX_WHOLE ? size : 0;
}

/* Returns whether its return is to be seen. */
static __always_inline int enter_tls(struct pt_regs *ctx, __u32 kind, __u64 moved)
{
	__u32 pid = current_pid();
	struct tls_call call = {};

	if (!is_tls_target(pid, TARGET_TLS))
		return 0;

	struct tls_thread *t = this_thread((__u32)bpf_get_current_pid_tgid());
	if (!t)
		return 0;
	call.key = session_key(pid, ARGUMENT(1, ctx));
	call.buffer = ARGUMENT(2, ctx);
	call.moved = moved;
	call.stack = STACK_ON_ENTRY(ctx);
	call.entered = bpf_ktime_get_ns();
	call.kind = kind;
	if (kind == TLS_WRITE)
		call.size = to_look_at(ARGUMENT(3, ctx));

	struct connection *s = enter_session(t, &call);
	if (s && kind != TLS_WRITE)
		join_read(t, s, call.key, ARGUMENT(1, ctx), pid, call.known);
	return s != NULL;
}

/* The work on a session, for the current task, which can have no other one. */
static __always_inline struct work *session_work(void)
{
	zero_key zero = 0;
	__u32 tid = bpf_get_current_pid_tgid();
	struct work *w = tls_works.lookup(&tid), *blank = blank_work.lookup((__u32 *)&zero);

	if (!w && blank) {
		tls_works.update(&tid, blank);
		w = tls_works.lookup(&tid);
	}
	if (!w)
		return NULL;
	leave_works(tid);
	w->tid = tid;
	return w;
}

/* A call has returned that we know nothing of; of a target that is a loss. */
static __always_inline int lose_call(void)
{
	if (watched(current_pid()))
		count(COUNT_TLS_CALL_LOST);
	return 0;
}

/* Any of these functions returns. */
static __always_inline int leave_tls(struct pt_regs *ctx)
{
	__u64 tid = (__u32)bpf_get_current_pid_tgid(), moved = 0;
	struct tls_call *call = leave_session(tls_threads.lookup(&tid), STACK_ON_RETURN(ctx));
	__s64 n = (__s32)RETURNED(ctx);

	count_hit(current_pid());
	if (!call)
		return lose_call();

	__u64 key = call->key;
	struct connection *s = connections.lookup(&key);
	if (!s)
		return 0;
	if (call->moved) {
		if (n == 1 && bpf_probe_read_user(&moved, sizeof(moved), (void *)call->moved))
			return 0;
		n = moved;
	}
	if (call->kind == TLS_HANDSHAKE || call->kind == TLS_FLUSH)
		return 0;
	if (n <= 0) {
		/* a response that ends with the connection ended with the last read that had nothing more */
		if (call->kind == TLS_READ && s->role == ROLE_CLIENT)
			s->closed = bpf_ktime_get_ns();
		return 0;
	}
	if (!call->known) {
		s->late = 1; /* its handshake was before our time */
		s->fresh = 0;
	}
	if (s->ignored || call->looked || (call->kind == TLS_WRITE && is_gone(s)))
		return 0;

	struct work *w = session_work();
	if (!w)
		return 0;
	use_connection(w, s, key, current_pid(), 0, call->kind == TLS_READ);
	/* the other end may have had the bytes long before the library returns; a request begins before it is sent */
	if (call->kind == TLS_WRITE && s->role == ROLE_CLIENT)
		w->time = call->entered;
	else if (call->passed)
		w->time = call->passed;
	use_plaintext(w, call->buffer, n);
	tls_steps.call(ctx, first_step(s));
	return 0;
}

/*
 * From Linux 6.13 on, one program may run on entry and on return, and tells on entry whether it is to run on return (1: it
 * is not). So a process that is no target has half the hits. With older kernels the return has a program of its own.
 */
#ifdef KFUNC_bpf_session_is_return
static int (*bpf_session_is_return)(void *ctx) = (void *)(KFUNC | KFUNC_bpf_session_is_return);
#define IS_RETURN(ctx) (bpf_session_is_return(ctx) & 1)
#define UNSEEN_RETURN 1
#define TLS_FUNCTION(name, kind, moved)                                                                                \
	PROGRAM(name, struct pt_regs *ctx)                                                                             \
	{                                                                                                              \
		return IS_RETURN(ctx) ? leave_tls(ctx) : !enter_tls(ctx, kind, moved);                                 \
	}
#else
#define IS_RETURN(ctx) 0
#define UNSEEN_RETURN 0
#define TLS_FUNCTION(name, kind, moved)                                                                                \
	PROGRAM(name, struct pt_regs *ctx)                                                                             \
	{                                                                                                              \
		enter_tls(ctx, kind, moved);                                                                           \
		return 0;                                                                                              \
	}

PROGRAM(tls_return, struct pt_regs *ctx)
{
	return leave_tls(ctx);
}
#endif

TLS_FUNCTION(tls_handshake, TLS_HANDSHAKE, 0)
TLS_FUNCTION(tls_flush, TLS_FLUSH, 0) /* sends what was written before */
TLS_FUNCTION(tls_read, TLS_READ, 0)
TLS_FUNCTION(tls_write, TLS_WRITE, 0)
TLS_FUNCTION(tls_read_ex, TLS_READ, ARGUMENT(4, ctx))
TLS_FUNCTION(tls_write_ex, TLS_WRITE, ARGUMENT(4, ctx))

/* The session's memory is given back: another one may get its address, before the kernel is done with the socket. */
PROGRAM(tls_free, struct pt_regs *ctx)
{
	if (IS_RETURN(ctx))
		return 0;

	__u32 pid = current_pid();
	__u64 key = session_key(pid, ARGUMENT(1, ctx));
	struct connection *s = pid ? connections.lookup(&key) : NULL;

	if (!s)
		return UNSEEN_RETURN;
	if (s->other) {
		struct connection *c = connections.lookup(&s->other);

		if (c && c->other == key)
			c->other = SESSION_OVER;
	}

	struct work *w = session_work();
	if (!w)
		return 0;
	use_connection(w, s, key, pid, 0, 0);
	w->last = 1;
	tls_steps.call(ctx, STEP_FINISH);
	return 0;
}

#endif
