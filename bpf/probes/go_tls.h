/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Go's crypto/tls: methods of *Conn. Calls in progress are known by goroutine, since one that waits goes on in another
 * thread. Where these programs are attached is known to autoinstr/libraries/go_tls.py.
 *
 * A session is joined with its socket by the system calls within a handshake or a write. What was read is looked at where
 * Read is about to copy it to its caller, with the session from where Read has kept its arguments: so it costs one hit, none
 * where nothing was read, and a Read that has waited since before the agent's time is seen, too.
 *
 * A client's requests are looked at when Write begins, for another goroutine may read the response before Write returns,
 * and other writes behind the call in it that has written.
 *
 * Both for the price of a hit, which is ten times higher at a return instruction of x86-64. Where it is not, or a Read has
 * nothing like that, its returns are probed. Where Go moves a stack it corrects what points into it, but not what it needs no
 * more, and at its end Read needs its buffer no more. So, where buffers may be on stacks, its entry is probed then, too.
 */
#ifndef AUTOINSTR_PROBES_GO_TLS_H
#define AUTOINSTR_PROBES_GO_TLS_H

static __always_inline struct connection *enter_go(struct pt_regs *ctx, __u32 pid, struct tls_call *call)
{
	struct tls_thread *t = this_thread(thread_of_goroutine(pid, GOROUTINE(ctx)));
	struct go_stack stack = stack_of_goroutine(GOROUTINE(ctx));

	call->key = session_key(pid, GO_ARGUMENT_1(ctx));
	call->buffer = GO_ARGUMENT_2(ctx);
	call->stack = ctx->sp - stack.end;
	call->stack_end = call->buffer >= stack.begin && call->buffer < stack.end ? stack.end : 0;
	if (call->kind == TLS_WRITE && !call->stack_end)
		call->size = to_look_at(GO_ARGUMENT_3(ctx));
	return t ? enter_session(t, call) : NULL;
}

/* func (c *Conn) clientHandshake(ctx context.Context) error, and serverHandshake */
PROGRAM(go_handshake, struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	struct tls_call call = {.kind = TLS_HANDSHAKE};

	if (!GO_BEGINS_AGAIN(ctx) && is_tls_target(pid, TARGET_GO))
		enter_go(ctx, pid, &call);
	return 0;
}

/* func (c *Conn) Write(b []byte) (int, error) */
PROGRAM(go_write, struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	__u64 size = GO_ARGUMENT_3(ctx);
	struct tls_call call = {.kind = TLS_WRITE, .parts = size > 1 ? PARTS_MAYBE : PARTS_ONE};

	if (GO_BEGINS_AGAIN(ctx) || !is_tls_target(pid, TARGET_GO))
		return 0;

	struct connection *s = enter_go(ctx, pid, &call);
	if (s && !call.known)
		s->late = 1;
	if (!s || s->ignored || s->role == ROLE_SERVER || !size)
		return 0;

	struct work *w = session_work();
	if (!w)
		return 0;
	use_connection(w, s, call.key, pid, 0, 0);
	w->goroutine = GOROUTINE(ctx);
	use_plaintext(w, call.buffer, size > ENTRY_SIZE ? ENTRY_SIZE : size);
	if (s->http2) {
		enter_frames(s, w);
		return 0;
	}
	w->entering = 1;
	if (s->entered)
		undo_entry(s); /* the end of the last write was not seen */
	note_entry(s, w->size);
	go_steps.call(ctx, STEP_LOOK);
	return 0;
}

/* A handshake or a Write ends, whose caller's stack pointer was this one. */
static __always_inline int leave_go(struct pt_regs *ctx, __u64 stack, int parted)
{
	__u32 pid = current_pid();
	__u64 id = thread_of_goroutine(pid, GOROUTINE(ctx));
	struct tls_thread *t = tls_threads.lookup(&id);
	struct tls_call *call = leave_session(t, stack - stack_of_goroutine(GOROUTINE(ctx)).end);
	__s64 n = GO_ARGUMENT_1(ctx);

	count_hit(pid);
	if (!call)
		return n > 0 ? lose_call() : 0; /* of a handshake that went well it is 0 */
	if (parted && call->parts == PARTS_MAYBE && n == 1 && !GO_ARGUMENT_2(ctx)) {
		call->parts = PARTS_TWO;
		t->depth++;
		return 0;
	}
	if (parted && call->parts == PARTS_TWO)
		n++;

	__u64 key = call->key, buffer = call->buffer, passed = call->passed;
	__u32 kind = call->kind, looked = call->looked;
	if (!t->depth)
		tls_threads.delete(&id);

	struct connection *s = connections.lookup(&key);
	if (kind == TLS_HANDSHAKE || looked || !s || s->ignored)
		return 0;
	if (n <= 0) {
		if (s->entered)
			undo_entry(s); /* nothing was written: there was no request */
		undo_frames(s, key);
		return 0;
	}

	struct work *w = session_work();
	if (!w)
		return 0;
	use_connection(w, s, key, pid, 0, 0);
	w->goroutine = GOROUTINE(ctx);
	if (passed)
		w->time = passed;
	use_plaintext(w, buffer, n);
	if (!s->entered || pass_entered(s, w))
		go_steps.call(ctx, first_step(s));
	return 0;
}

/* A handshake or a Write returns. */
PROGRAM(go_return, struct pt_regs *ctx)
{
	return leave_go(ctx, ctx->sp, 0);
}

/*
 * func (c *Conn) writeRecordLocked(typ recordType, data []byte) (int, error) has returned to Write. With TLS 1.0 it is called
 * twice, with the first byte and then with the others.
 */
PROGRAM(go_written, struct pt_regs *ctx)
{
	return leave_go(ctx, GO_STACK_ON_RETURN(ctx), 1);
}

/* func (c *Conn) Read(b []byte) (int, error) */
PROGRAM(go_read, struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	struct tls_call call = {.kind = TLS_READ};

	if (GO_BEGINS_AGAIN(ctx) || !is_tls_target(pid, TARGET_GO))
		return 0;

	struct connection *s = enter_go(ctx, pid, &call);
	if (s && !call.known)
		s->late = 1;
	return 0;
}

/* Read returns: where its buffer is by now, if its entry was seen; else 0. */
static __always_inline __u64 leave_read(struct pt_regs *ctx, __u32 pid)
{
	__u64 id = thread_of_goroutine(pid, GOROUTINE(ctx)), end, buffer;
	struct tls_thread *t = tls_threads.lookup(&id);

	if (!t || !t->depth)
		return 0;

	struct tls_call *call = &t->calls[(t->depth - 1) & (TLS_DEPTH - 1)];
	end = stack_of_goroutine(GOROUTINE(ctx)).end;
	if (call->kind != TLS_READ || call->stack != ctx->sp - end)
		return 0;
	buffer = call->stack_end ? call->buffer - call->stack_end + end : call->buffer;
	if (!--t->depth)
		tls_threads.delete(&id);
	return buffer;
}

/* So much was read of this session. */
static __always_inline void look_at_read(struct pt_regs *ctx, __u32 pid, __u64 key, __u64 buffer, __u64 size)
{
	struct connection *s = connections.lookup(&key);

	if (!s) {
		s = new_session(key);
		if (s)
			s->late = 1; /* its handshake was before our time */
	}
	if (!s || s->ignored)
		return;

	struct work *w = session_work();
	if (!w)
		return;
	use_connection(w, s, key, pid, 0, 1);
	w->goroutine = GOROUTINE(ctx);
	use_plaintext(w, buffer, size);
	go_steps.call(ctx, first_step(s));
}

PROGRAM(go_read_return, struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	__s64 n = GO_ARGUMENT_1(ctx);
	struct {
		__u64 session, buffer;
	} at;

	if (!is_tls_target(pid, TARGET_GO))
		return 0;

	__u64 buffer = leave_read(ctx, pid);
	if (n > 0 && !bpf_probe_read_user(&at, sizeof(at), (void *)(ctx->sp + GO_HOME)))
		look_at_read(ctx, pid, session_key(pid, at.session), buffer ? buffer : at.buffer, n);
	return 0;
}

/* Read calls func memmove(to, from unsafe.Pointer, n uintptr): what is at `from` was read. */
PROGRAM(go_read_copy, struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	__u64 session = 0;

	if (is_tls_target(pid, TARGET_GO) && GO_ARGUMENT_3(ctx) &&
	    !bpf_probe_read_user(&session, sizeof(session), (void *)(GO_STACK_ON_RETURN(ctx) + GO_HOME)))
		look_at_read(ctx, pid, session_key(pid, session), GO_ARGUMENT_2(ctx), GO_ARGUMENT_3(ctx));
	return 0;
}

#endif
