/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * System calls that move bytes over sockets.
 *
 * Raw tracepoints run for every system call of the machine, so the first question is whether the process is a target,
 * and calls that failed are sorted out before that. What was read is looked at on exit; what was written, too, but for
 * requests of clients: their response may be read by another thread before the write returns, so they are looked at on
 * entry.
 */
#ifndef AUTOINSTR_PROBES_SYSCALLS_H
#define AUTOINSTR_PROBES_SYSCALLS_H

#define MSG_OOB 1
#define MSG_PEEK 2
#define MSG_TRUNC 0x20
#define MSG_ERRQUEUE 0x2000
#define NOT_TAKEN (MSG_PEEK | MSG_OOB | MSG_ERRQUEUE) /* what is read with these is no part of the stream, or stays */

#define SOL_SOCKET 1
#define SO_ERROR 4
#define TCP_ZEROCOPY_RECEIVE 35

#define PROT_EXEC 4
#define MAP_ANONYMOUS 0x20

#define EINTR 4
#define EAGAIN 11
#define EINPROGRESS 115
#define ERESTARTSYS 512
#define ERESTART_RESTARTBLOCK 516

/* Of a write, what is looked at on entry: enough for the head of a request, too little to be accepted only in part. */
#define ENTRY_SIZE 16384

/* Sorts a system call: direction, buffers, descriptor. */
static __always_inline enum transfer sort_call(const struct syscall *call, __u32 *fd, __u32 *incoming)
{
	__u64 flags = 0;
	enum transfer transfer = TRANSFER_NONE;

	*fd = call->args[0];
	*incoming = 0;
	/* the usual ones first, which the compiler would else search for among all */
	if (call->nr == NR_recvfrom || call->nr == NR_read) {
		if (call->nr == NR_recvfrom)
			flags = call->args[3];
		*incoming = 1;
		return flags & NOT_TAKEN ? TRANSFER_NONE : TRANSFER_BUFFER;
	}
	if (call->nr == NR_writev)
		return TRANSFER_VECTOR;
	switch (call->nr) {
	case NR_readv:
	case NR_preadv2:
		*incoming = 1;
		transfer = TRANSFER_VECTOR;
		break;
	case NR_recvmsg:
		flags = call->args[2];
		*incoming = 1;
		transfer = TRANSFER_MESSAGE;
		break;
	case NR_recvmmsg:
		flags = call->args[3];
		*incoming = 1;
		transfer = TRANSFER_MESSAGES;
		break;
	case NR_write:
	case NR_sendto:
		transfer = TRANSFER_BUFFER;
		break;
	case NR_pwritev2:
		transfer = TRANSFER_VECTOR;
		break;
	case NR_sendmsg:
		transfer = TRANSFER_MESSAGE;
		break;
	case NR_sendmmsg:
		transfer = TRANSFER_MESSAGES;
		break;
	case NR_sendfile:
		transfer = TRANSFER_OPAQUE;
		break;
	case NR_splice:
		transfer = TRANSFER_OPAQUE;
		break;
	case NR_getsockopt:
		if (call->args[1] != IPPROTO_TCP || call->args[2] != TCP_ZEROCOPY_RECEIVE)
			break;
		*incoming = 1;
		transfer = TRANSFER_OPAQUE;
		break;
	}
	return flags & NOT_TAKEN ? TRANSFER_NONE : transfer;
}

/*
 * What getsockopt(TCP_ZEROCOPY_RECEIVE) has taken out of the stream: pages are mapped where the process says, what fills
 * none is copied elsewhere. Returns how much. Where it is all in one place, the call looks like a read of it from now on.
 */
static __always_inline long use_mapped(struct syscall *call, const void *registers, enum transfer *transfer)
{
	struct {
		__u64 pages;
		__u32 pages_size, hint, queued, error;
		__u64 copy; /* from here on since Linux 5.11, if the process knows of it */
		__s32 copy_size, flags;
	} got = {};
	__u64 length = 0;
	__u32 known = 0;

	bpf_probe_read_kernel(&length, sizeof(length), FIFTH_ARGUMENT(registers));
	bpf_probe_read_user(&known, sizeof(known), (void *)length);
	if (known >= sizeof(got))
		bpf_probe_read_user(&got, sizeof(got), (void *)call->args[3]);
	else
		bpf_probe_read_user(&got, 16, (void *)call->args[3]);
	if (got.copy_size < 0)
		got.copy_size = 0;
	if (!got.pages_size || !got.copy_size)
		*transfer = TRANSFER_BUFFER;
	call->args[1] = got.pages_size ? got.pages : got.copy;
	return (long)got.pages_size + got.copy_size;
}

/* Is what is read thrown away, and the buffer left as it is? Not so of Unix sockets. */
static __always_inline int discards(const struct syscall *call, const struct connection *c)
{
	__u64 flags = call->nr == NR_recvmsg				       ? call->args[2]
		      : call->nr == NR_recvfrom || call->nr == NR_recvmmsg ? call->args[3]
									       : 0;

	return flags & MSG_TRUNC && c->slot.family != FAMILY_UNIX;
}

/* Waits for whichever of many connections is ready first, as event loops do. */
static __always_inline int waits_for_events(__u64 nr)
{
#ifdef NR_epoll_wait
	if (nr == NR_epoll_wait)
		return 1;
#endif
	return nr == NR_epoll_pwait || nr == NR_epoll_pwait2;
}

/* How long it would have waited without events, in nanoseconds; WAITS_ON: for ever, or that is not known. */
static __always_inline __u64 wait_limit(const struct syscall *call)
{
	__u64 at = call->args[3];
	__s32 milliseconds = at;

	if (call->nr == NR_epoll_pwait2)
		return at ? user_u64(at) * 1000000000 + user_u64(at + 8) : WAITS_ON;
	return milliseconds < 0 ? WAITS_ON : (__u64)milliseconds * MILLISECOND;
}

/* Is this what is written to wake up an event loop: one more for an eventfd, or a byte of zeros into a pipe? */
static __always_inline int wakes(__u64 buffer, long size)
{
	if (size == 8)
		return user_u64(buffer) == 1;
	if (size != 1)
		return 0;

	__u8 byte = 1;

	bpf_probe_read_user(&byte, 1, (void *)buffer);
	return !byte;
}

/* The same, or a thread that waits for one of its own. */
static __always_inline int waits_for_any(__u64 nr)
{
#ifdef NR_poll
	if (nr == NR_poll || nr == NR_select)
		return 1;
#endif
	return nr == NR_ppoll || nr == NR_pselect6;
}

/* Points the work at the call's buffers; returns whether they can be looked at. */
static __always_inline int use_call(struct work *w, const struct syscall *call, enum transfer transfer, __u64 size)
{
	w->position = 0;
	w->size = size;
	w->opaque = 0;
	w->messages_left = 0;
	w->vector_left = 0;
	switch (transfer) {
	case TRANSFER_BUFFER:
		use_buffer(w, call->args[1]);
		return 1;
	case TRANSFER_VECTOR:
		use_vector(w, call->args[1], call->args[2]);
		return 1;
	case TRANSFER_MESSAGE:
		return use_message(w, call->args[1]);
	case TRANSFER_MESSAGES:
		w->message = call->args[1];
		w->messages_left = size;
		w->size = 0;
		return 1;
	default:
		w->opaque = 1;
		return 1;
	}
}

/* Everything of a work but its buffers. */
static __always_inline void use_connection(struct work *w, struct connection *c, __u64 sock, __u32 pid, __u32 fd,
					   __u32 incoming)
{
	w->sock = sock;
	w->pid = pid;
	w->fd = fd;
	w->incoming = incoming;
	w->side = (c->role == ROLE_CLIENT) == incoming ? SIDE_RESPONSE : SIDE_REQUEST;
	w->entering = 0;
	w->arrived = 0;
	w->steps = 0;
	w->skipped = 0;
	w->cut = 0;
	w->last = 0;
	w->settled = w->kept = w->kept_size = 0;
	w->begun = w->several = w->answered = 0;
	w->goroutine = 0;
	w->time = bpf_ktime_get_ns();
}

/* Of this write, something was looked at on its entry: what is left? Returns whether there is anything to look at. */
static __always_inline int pass_entered(struct connection *c, struct work *w)
{
	if (w->size < c->entered)
		return undo_entry(c);
	w->position = c->entered;
	c->entered = 0;
	return w->position != w->size;
}

/* accept and connect: a connection from its first byte on. */
static __always_inline void new_connection(const struct syscall *call, __u32 pid, __u8 *target, long ret)
{
	int connects = call->nr == NR_connect;
	__u64 file = current_file(connects ? call->args[0] : ret);

	if (!file)
		return;
	if (*target & TARGET_SELF) {
		if (connects)
			note_own_endpoint(file);
		return;
	}
	if (!connects) {
		if (track(file, ROLE_SERVER, target))
			note_accept(sock_of(file), pid);
		return;
	}

	struct connection *c = tracked(file, sock_of(file));
	if (c && c->fresh && c->role == ROLE_CLIENT && c->requests)
		return; /* connect() again, to learn the outcome of the first */
	c = track(file, ROLE_CLIENT, target);
	if (c)
		note_connect(c, address_of_sock(file), pid, call->goroutine);
	if (ret == -EINPROGRESS)
		note_pause(pid, bpf_get_current_pid_tgid(), address_of_sock(file));
	if (!(*target & TARGET_CLIENT))
		*target |= TARGET_CLIENT;
}

/* An event loop asks whether a connection is there: what it does next is for that one, unless it is an older one. */
static __always_inline void note_connected(__u32 fd, __u32 pid)
{
	__u64 file = current_file(fd);
	struct connection *c = tracked(file, sock_of(file));

	if (!c || !c->requests)
		note_other(pid);
}

#ifdef PID_NAMESPACE
/* The agent tells its place among PID namespaces by closing a descriptor that can't be. */
static __always_inline void learn_namespace(const void *registers)
{
	zero_key zero = 0;
	struct control *c = control.lookup((__u32 *)&zero);
	struct syscall call;

	if (!c || c->pid_namespace || !read_syscall(&call, registers) || (__u32)call.args[0] != MARKER_FD)
		return;

	__u64 signal = kernel_u64(bpf_get_current_task() + OFFSET_task_struct_signal);
	__u64 pid = kernel_u64(signal + OFFSET_signal_struct_pids + 8);
	__u32 level = kernel_u32(pid + OFFSET_pid_level);

	c->pid_level = level;
	c->pid_namespace = kernel_u64(pid + OFFSET_pid_numbers + SIZE_upid * level + OFFSET_upid_ns);
}
#endif

/*
 * The work of the current task, for the programs that go on with it. One look-up, whatever it is a work of: two would be
 * twice the ways for the verifier to follow. For probes of functions the loader puts `tls_works` in the place of `works`.
 */
static __always_inline struct work *work_at_hand(void)
{
	zero_key zero = 0;
	__u32 tid = bpf_get_current_pid_tgid(), at = tid;
	struct work_owners *owners = work_owners.lookup((__u32 *)&zero);

	if (!owners)
		return NULL;
	for (__u32 i = 0; i < WORKS; i++) {
		if (owners->tid[i] == tid)
			at = i;
	}
	return works.lookup(&at);
}

/* The current task, `tid`, has no work of this CPU any more. */
static __always_inline struct work_owners *leave_works(__u32 tid)
{
	zero_key zero = 0;
	struct work_owners *owners = work_owners.lookup((__u32 *)&zero);

	for (__u32 i = 0; owners && i < WORKS; i++) {
		if (owners->tid[i] == tid)
			owners->tid[i] = 0;
	}
	return owners;
}

/* The work of this kind and copy, for the current task, which can have no other one any more. */
static __always_inline struct work *take_work(__u32 kind, __u32 copy, __u32 tid)
{
	__u32 at = copy * WORK_KINDS + kind;
	struct work_owners *owners = leave_works(tid);
	struct work *w;

	if (owners)
		owners->tid[at] = tid; /* before the look-up, after which verifiers before Linux 6.13 do not know `at` any more */
	w = works.lookup(&at);
	if (w)
		w->tid = tid;
	return w;
}

/* The same, and the connection that it is work on; NULL: one of them is gone. */
static __always_inline struct connection *connection_at_hand(struct work **w)
{
	*w = work_at_hand();
	return *w ? connections.lookup(&(*w)->sock) : NULL;
}

/* Tail call: looks at the system call that this CPU has at hand. A program of its own, so that it is compiled once. */
PROGRAM(step, void *ctx)
{
	struct work *w;
	struct connection *c = connection_at_hand(&w);

	if (c)
		look_at_call(ctx, c, w);
	return 0;
}

/* Tail call: skips chunks of a body, then looks at what follows. */
PROGRAM(chunks, void *ctx)
{
	struct work *w;
	struct connection *c = connection_at_hand(&w);

	if (!c)
		return 0;
	if (skip_chunks(c, w) && ++w->steps < MAX_STEPS)
		steps.call(ctx, STEP_CHUNKS);
	steps.call(ctx, STEP_LOOK);
	return 0;
}

/* Tail call: what is there is no HTTP/1, or no longer. A program of its own, since it is rare, and has many ways to end. */
PROGRAM(lost, void *ctx)
{
	struct work *w;
	struct connection *c = connection_at_hand(&w);

	if (!c)
		return 0;

	int http2 = begins_http2(c, w);
	if (http2) {
		if (become_http2(c, w, http2))
			steps.call(ctx, STEP_FRAMES);
		return 0;
	}
	if (go_on_lost(c, w))
		steps.call(ctx, STEP_LOOK);
	return 0;
}

/* Tail call: looks at the system call that this CPU has at hand, of an HTTP/2 connection. */
PROGRAM(frames, void *ctx)
{
	struct work *w;
	struct connection *c = connection_at_hand(&w);

	if (!c)
		return 0;

	struct http2 *h = http2_of(c, w->sock);
	if (h)
		look_at_frames(ctx, c, h, w);
	return 0;
}

/* Tail call: the ring has no room for the end of a stream; then goes on. */
PROGRAM(only_count, void *ctx)
{
	struct work *w = work_at_hand();

	if (!w)
		return 0;
	aggregate_exchanges(told_of(w), 1);
	steps.call(ctx, STEP_FRAMES);
	return 0;
}

/* Tail call: the last request that has begun gets its place in a trace. */
PROGRAM(place, void *ctx)
{
	struct work *w;
	struct connection *c = connection_at_hand(&w);

	if (!c)
		return 0;

	struct exchange *x = request_numbered(c, w->sock, w->streams[0]);
	if (!x)
		return 0;
	know_pair(c, w->sock);
	if (c->role == ROLE_CLIENT)
		place_call(c, w, x);
	else
		place_served(c, w, x);
	return 0;
}

#ifdef PROPAGATE_HEADERS
APART(turn_of_inserted, struct frames_at_hand)
{
	take_inserted(at->c, at->h, at->w, at->w->begun);
	return 0;
}
#endif

APART(turn_of_places, struct frames_at_hand)
{
	place_stream(at->c, at->h, at->w, at->w->streams[at->w->begun & (BEGUN - 1)]);
	return 0;
}

/* Tail call: so do streams of HTTP/2 that have begun, or were answered; then goes on with what is left. */
PROGRAM(place_streams, void *ctx)
{
	struct work *w;
	struct connection *c = connection_at_hand(&w);

	if (!c)
		return 0;

	struct http2 *h = http2_of(c, w->sock);
	if (!h)
		return 0;
	know_pair(c, w->sock);
	if (w->begun > 1)
		w->several = 1;
	if (w->begun > BEGUN)
		w->begun = BEGUN; /* of more the last ones */

	struct frames_at_hand at = {c, h, .w = w};
	for (int i = 0; i < PLACES_A_RUN; i++) {
		http1_barrier();
		if (!w->begun)
			break;
		w->begun--;
#ifdef PROPAGATE_HEADERS
		TURN(turn_of_inserted, &at);
		http1_barrier();
#endif
		TURN(turn_of_places, &at);
	}
	http1_barrier();
	if (w->answered && w->next == STEPS)
		place_answer(c, h, w);
	steps.call(ctx, w->begun && ++w->steps < MAX_STEPS ? STEP_PLACE_STREAMS : w->next);
	return 0;
}

/* Tail call: the connection has ended, or its incoming side. */
PROGRAM(finish, void *ctx)
{
	struct work *w;
	struct connection *c = connection_at_hand(&w);

	if (!c)
		return 0;
	end_connection(w->sock, c, w->time, &w->last, told_of(w), &w->turns);
	return 0;
}

/* All that a call of a TLS library is to write has gone over its socket. */
static __always_inline void look_at_written(void *ctx, struct tls_call *written, __u32 pid, __u32 tid, __u64 goroutine,
					    __u32 copy)
{
	struct connection *s = connections.lookup(&written->key);
	struct work *w;

	if (!s || s->ignored || s->entered || s->role == ROLE_UNKNOWN || (s->role == ROLE_CLIENT && !written->known))
		return;
	w = take_work(WORK_EXIT, copy, tid);
	if (!w)
		return;
	use_connection(w, s, written->key, pid, 0, 0);
	w->goroutine = goroutine;
	if (s->role == ROLE_CLIENT && written->entered)
		w->time = written->entered; /* a request begins before it is sent */
	use_plaintext(w, written->buffer, written->size);
	written->size = 0;
	written->looked = 1;
	steps.call(ctx, first_step(s));
}

/* Calls that move no bytes and still tell something. */
static __always_inline void moves_no_bytes(const struct syscall *call, const struct self *self, __u8 *target, long ret)
{
	__u32 pid = self->pid;

	if (call->nr == NR_accept || call->nr == NR_accept4) {
		if (ret >= 0)
			new_connection(call, pid, target, ret);
		return;
	}
	if (call->nr == NR_connect) {
		if (ret == 0 || ret == -EINPROGRESS)
			new_connection(call, pid, target, ret);
		return;
	}
	if (*target & TARGET_SELF)
		return;
	if (waits_for_events(call->nr)) {
		note_wait(pid, self->tid, 1, wait_limit(call));
	} else if (waits_for_any(call->nr)) {
		note_wait(pid, self->tid, 0, WAITS_ON);
	} else if (call->nr == NR_getsockopt) {
		if (call->args[1] == SOL_SOCKET && call->args[2] == SO_ERROR)
			note_connected(call->args[0], pid);
	} else if (call->nr == NR_mmap) {
		if (ret > 0 && call->args[2] & PROT_EXEC && !(call->args[3] & MAP_ANONYMOUS))
			mapped_code(pid, target);
	}
}

/* raw tracepoint: (struct pt_regs *regs, long ret) */
static __always_inline int on_sys_exit(struct bpf_raw_tracepoint_args *ctx, __u32 copy)
{
	long ret = ctx->args[1];
	struct syscall call;
	__u32 fd, incoming;

	if (ret == -EINTR || (ret <= -ERESTARTSYS && ret >= -ERESTART_RESTARTBLOCK))
		return 0;

	struct self self = current_self();
	__u32 pid = self.pid, tid = self.tid;
	__u8 *target = target_of(pid);
	if (!target || !*target || !pid || (ret == -EAGAIN && !(*target & TARGET_CLIENT)))
		return 0;
	if (!read_syscall(&call, (void *)ctx->args[0]))
		return 0;

	enum transfer transfer = sort_call(&call, &fd, &incoming);
	if (transfer == TRANSFER_NONE) {
		if (ret != -EAGAIN)
			moves_no_bytes(&call, &self, target, ret);
		return 0;
	}
	if (*target & TARGET_SELF)
		return 0;
	if (call.nr == NR_getsockopt) {
		if (ret)
			return 0;
		ret = use_mapped(&call, (void *)ctx->args[0], &transfer);
		if (!ret)
			return 0;
	}

	__u64 file = own_file(&self, fd), sk = sock_of(file);
	if (ret == -EAGAIN) {
		if (is_stream(file))
			note_pause(pid, tid, address_of_sock(file));
		return 0;
	}

	struct connection *c = tracked(file, sk);

	if (call.nr == NR_splice) {
		if (c) {
			incoming = 1;
		} else {
			/* splice(fd_in, off_in, fd_out, ...): one end is a pipe */
			fd = call.args[2];
			file = own_file(&self, fd);
			sk = sock_of(file);
			c = tracked(file, sk);
		}
	}
	if (incoming && *target & TARGET_CLIENT)
		note_read(pid, tid, c, sk);
	if (!c) {
		if (ret <= 0)
			return 0;
		c = track(file, ROLE_UNKNOWN, target);
		if (!c) {
			if (call.nr == NR_write && wakes(call.args[1], ret) && !is_stream(file))
				note_woken(pid);
			return 0;
		}
	}
	if (*target & (TARGET_TLS | TARGET_GO)) {
		struct tls_call *written = NULL;

		if (ret <= 0)
			end_session(c, incoming, ret);
		if (*target & TARGET_TLS)
			written = meet_session(c, sk, pid, &call, transfer, incoming, ret);
		if (*target & TARGET_GO && !written)
			written = meet_session_of_goroutine(c, sk, pid, (void *)ctx->args[0], &call, transfer, incoming, ret);
		if (written) {
			look_at_written(ctx, written, pid, tid, call.goroutine, copy);
			return 0;
		}
	}
	if (c->ignored)
		return 0;
	if (c->reader && c->reader != (__u16)tid && !incoming && *target & TARGET_CLIENT)
		note_moved(pid, tid);

	struct work *w = take_work(WORK_EXIT, copy, tid);
	if (!w)
		return 0;
	use_connection(w, c, sk, pid, fd, incoming);
	w->goroutine = call.goroutine;
	if (ret <= 0) {
		if (ret < 0) {
			c->error = -ret;
			if (!incoming && c->entered)
				undo_entry(c); /* nothing was written: there was no request */
			if (!incoming)
				undo_frames(c, sk);
		}
		/* a client has all that it will get; a server may still answer a half-closed connection */
		if (incoming && c->role == ROLE_CLIENT)
			steps.call(ctx, STEP_FINISH);
		return 0;
	}
	if (!use_call(w, &call, transfer, ret))
		return 0;
	if (discards(&call, c))
		w->opaque = 1;
	if (c->entered && !incoming && !pass_entered(c, w))
		return 0;
	if (incoming && transfer != TRANSFER_MESSAGES)
		w->arrived = ret;
	/* as first_step(), but to a place that is known beforehand: many times cheaper */
	if (c->http2)
		steps.call(ctx, STEP_FRAMES);
	else
		look_at_first(ctx, c, w);
	return 0;
}
PROBE(sys_exit)

/* raw tracepoint: (struct pt_regs *regs, long id) */
static __always_inline int on_sys_enter(struct bpf_raw_tracepoint_args *ctx, __u32 copy)
{
	long nr = ctx->args[1];
	struct syscall call;
	__u32 fd, incoming;

	if (nr != NR_write && nr != NR_sendto && nr != NR_writev && nr != NR_sendmsg && nr != NR_close)
		return 0;

	struct self self = current_self();
	__u32 pid = self.pid, tid = self.tid;
	__u8 *target = target_of(pid);

#ifdef PID_NAMESPACE
	if (nr == NR_close && !pid)
		learn_namespace((void *)ctx->args[0]);
#endif
	if (!target || !pid || !(*target & (nr == NR_close ? TARGET_CLOSES : TARGET_CLIENT)))
		return 0;
	if (!read_syscall(&call, (void *)ctx->args[0]))
		return 0;

	__u64 file = own_file(&self, call.args[0]), sk = sock_of(file);
	struct connection *c = tracked(file, sk);
	if (!c || c->ignored)
		return 0;

	struct work *w = take_work(WORK_ENTER, copy, tid);
	if (!w)
		return 0;
	use_connection(w, c, sk, pid, call.args[0], 0);
	w->goroutine = call.goroutine;
	if (nr == NR_close) {
		w->last = 1;
		if ((c->slot.family == FAMILY_UNIX || is_multipath(address_of_sock(file))) && last_reference(file))
			steps.call(ctx, STEP_FINISH);
		return 0;
	}
	if (c->role != ROLE_CLIENT)
		return 0;
#ifdef PROPAGATE
	if (!c->pair && c->slot.family != FAMILY_UNIX && is_connecting(first_tcp_of(address_of_sock(file))))
		return 0; /* its bytes have no numbers yet, by which they could be told of: it is looked at on exit */
#endif
	if (c->http2) {
		enter_frames(c, w);
		return 0;
	}

	enum transfer transfer = sort_call(&call, &fd, &incoming);
	if (!use_call(w, &call, transfer, transfer == TRANSFER_BUFFER ? call.args[2] : 0))
		return 0;
	if (transfer != TRANSFER_BUFFER) {
		/* the size is the sum of the buffers: of the first will do */
		struct user_vector v;

		if (!w->vector_left || bpf_probe_read_user(&v, sizeof(v), (void *)w->vector))
			return 0;
		w->size = v.size;
	}
	if (w->size > ENTRY_SIZE)
		w->size = ENTRY_SIZE;
	if (!w->size)
		return 0;
	w->entering = 1;
	if (c->entered)
		undo_entry(c); /* the last write found no room, and is made again */
	note_entry(c, w->size);
	steps.call(ctx, STEP_LOOK);
	return 0;
}
PROBE(sys_enter)

/* raw tracepoint sys_exit, attached for a second when somebody asks: the system calls of each target. */
int count_calls(struct bpf_raw_tracepoint_args *ctx)
{
	__u32 pid = current_pid();
	struct hits *found = hits.lookup(&pid);

	if (found)
		__sync_fetch_and_add(&found->calls, 1);
	return 0;
}

#endif
