/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Trace contexts for other hosts in what Go's net/http client writes, before it is encrypted: a traceparent field in the head
 * of requests of HTTP/1 that have none. Where this program is attached is known to autoinstr/libraries/go_propagate.py:
 *
 * func (r *Request) write(w io.Writer, ...) is about to call io.WriteString(w, "\r\n"), which ends the head. What is written so
 * far lies in the connection's bufio.Writer. That belongs to the goroutine that is stopped here, until it goes on; so the
 * field goes behind what is there, where nobody has anything yet, and then it is made to count. Whatever fails before that
 * has changed nothing. If anything is not as expected, all is left as it is.
 */
#ifndef AUTOINSTR_PROBES_GO_PROPAGATE_H
#define AUTOINSTR_PROBES_GO_PROPAGATE_H

#ifdef PROPAGATE_GO

#define GO_HEAD_WINDOWS 8 /* of a head that is looked at: 4096 bytes, as large as the buffer is if nobody says otherwise */
#define GO_MIN_HEAD 32	  /* less is none */
#define ITAB_METHODS 24	  /* of a runtime.itab: its functions, by their names */

#define WORD_FEED_HOST 0x203a74736f480aULL    /* "\nHost: " */
#define WORD_FEED_TRACE 0x617065636172740aULL /* "\ntracepa" */

struct go_interface {
	__u64 itab, data;
};

/* bufio.Writer */
struct go_writer {
	struct go_interface error;
	__u64 buffer, size, room;
	__u64 used;
	struct go_interface to;
};

/* Bytes that go behind those that lie in it. */
static __always_inline __u64 room_of(const struct go_writer *writer)
{
	if (writer->error.itab || writer->used > writer->size || writer->size > writer->room)
		return 0;
	return writer->size - writer->used;
}

/*
 * The first method of what an interface holds is this one: that tells the type. `loaded`: how far addresses are from those in
 * the program's file.
 */
static __always_inline int is_of(__u64 loaded, const struct go_interface *held, __u32 method)
{
	return method && held->itab && user_u64(held->itab + ITAB_METHODS) == loaded + method;
}

/*
 * Key in `connections` of what the interface at `at` holds: a *tls.Conn or a *net.TCPConn, or something that holds one of them
 * first, which is `wrapped` then. 0: anything else.
 */
static __always_inline __u64 key_for_certain(__u64 loaded, __u32 pid, struct go_fields *l, __u64 at, int *wrapped)
{
	struct go_interface conn;

#pragma unroll
	for (int i = 0; i < 2; i++) {
		if (bpf_probe_read_user(&conn, sizeof(conn), (void *)at))
			return 0;
		*wrapped = i;
		if (is_of(loaded, &conn, l->tls_close))
			return session_key(pid, conn.data);
		if (is_of(loaded, &conn, l->tcp_close))
			return address_of_sock(current_file(user_u64(user_u64(conn.data) + 16)));
		at = conn.data;
	}
	return 0;
}

/* All ones if the value is zero, else a value without its highest bit. */
static __always_inline __u64 if_zero(__u64 value)
{
	return ~(value | -value);
}

/* What is to be known of a head, which is read in windows. */
struct head_at_hand {
	struct work *w;
	__u64 at, end; /* addresses */
	__u64 host;    /* highest bit: its first line ends in it, so that all of its fields lie here */
	__u64 own;     /* highest bit: a field of that name, or of one that begins so */
};

APART(look_for_fields, struct head_at_hand)
{
	struct work *w = at->w;
	__u64 size = at->end - at->at;

	/* what begins in this window may end in the next one */
	size = at_most(size, WINDOW + 8);
	__builtin_memset(w->window, 0, WINDOW + 8); /* in all of it is looked, for a loop of one length has fewer ways to go */
	if (bpf_probe_read_user(w->window, size, (void *)at->at))
		return 1;
	w->scan.feeds = 0;
	w->scan.seen = 0;

	LOOP_OVER (i, w->turns, WINDOW / 8) {
		http1_barrier();
#ifdef MAY_GOTO
		/* older verifiers follow both ways of each turn through all that come */
		if (!line_feeds(word_at(w->window, 8 * i)))
			continue;
#endif
#pragma unroll
		for (int j = 0; j < 8; j++) {
			__u64 word = word_at(w->window, 8 * i + j);

			w->scan.feeds |= if_zero((word ^ WORD_FEED_HOST) << 8);
			w->scan.seen |= if_zero((word | (LOWER << 8)) ^ WORD_FEED_TRACE);
		}
	}
	at->host |= w->scan.feeds;
	at->own |= w->scan.seen;
	return 0;
}

/* Does a whole head lie there, but for the empty line at its end, without trace context of its own? */
static __always_inline int is_bare_head(struct work *w, __u64 begin, __u64 size)
{
	struct head_at_hand head = {.w = w, .at = begin, .end = begin + size};
	__u16 end = 0;

	if (size < GO_MIN_HEAD || size > GO_HEAD_WINDOWS * WINDOW)
		return 0;
	if (bpf_probe_read_user(&end, sizeof(end), (void *)(begin + size - sizeof(end))) || end != 0x0a0d)
		return 0;

#pragma unroll
	for (int i = 0; i < GO_HEAD_WINDOWS; i++) {
		if (head.at >= head.end)
			break;
		if (TURN(look_for_fields, &head))
			return 0;
		http1_barrier();
		head.at += WINDOW;
	}
	return head.at >= head.end && head.host >> 63 && !(head.own >> 63);
}

/* Is the next thing that goes over this connection a request of HTTP/1, and nothing of it has gone yet? */
static __always_inline int awaits_request(const struct connection *c, int wrapped)
{
	if (c->ignored || c->secret || c->http2 || c->role == ROLE_SERVER || (c->other && !c->session))
		return 0;
	if (c->framers[SIDE_REQUEST].flags & FRAMER_BEGUN)
		return 0;
	return c->session || c->requests || !wrapped; /* what wraps it may write something else */
}

#define READ_BACK 128 /* where in the window */

/* Puts the field behind what the writer at `at` holds; returns whether it counts now. */
static __always_inline int add_field(struct work *w, __u64 at, const struct go_writer *writer, const struct trace *t)
{
	__u64 place = writer->buffer + writer->used, used = writer->used + FIELD_SIZE, differs = 0;
	__u8 *field = w->window, *back = w->window + READ_BACK;

	write_field(field, t);
	if (bpf_probe_write_user((void *)place, field, FIELD_SIZE) ||
	    bpf_probe_read_user(back, FIELD_SIZE, (void *)place))
		return 0;
#pragma unroll
	for (int i = 0; i < FIELD_SIZE - 8; i += 8)
		differs |= load64(field + i) ^ load64(back + i);
	differs |= load64(field + FIELD_SIZE - 8) ^ load64(back + FIELD_SIZE - 8);
	if (differs)
		return 0;
	return !bpf_probe_write_user((void *)(at + __builtin_offsetof(struct go_writer, used)), &used, sizeof(used));
}

static __always_inline struct go_fields *fields_of_target(__u32 pid)
{
	return layout_of_target(pid) ? go_fields.lookup(&pid) : NULL;
}

int propagate_go(struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	struct go_fields *l = fields_of_target(pid);
	struct go_interface to = {.itab = GO_ARGUMENT_1(ctx), .data = GO_ARGUMENT_2(ctx)};
	struct go_writer writer;
	int wrapped = 0;

	if (!l)
		return 0;

	__u64 loaded = PROBED_AT(ctx) - l->head;
	if (!l->client || !is_of(loaded, &to, l->buffered_write) ||
	    bpf_probe_read_user(&writer, sizeof(writer), (void *)to.data) ||
	    !is_of(loaded, &writer.to, l->client_write))
		return 0;
	if (room_of(&writer) < FIELD_SIZE + 2)
		return 0;

	__u64 key = key_for_certain(loaded, pid, l, writer.to.data + l->client, &wrapped);
	struct connection *c = key ? connections.lookup(&key) : NULL;
	if (!c || !awaits_request(c, wrapped))
		return 0;

	struct work *w = session_work();
	if (!w || !is_bare_head(w, writer.buffer, writer.used))
		return 0;
	w->pid = pid;
	w->goroutine = GOROUTINE(ctx);

	struct written_field new = {};
	begin_trace(&new.trace, bpf_ktime_get_ns());
	struct trace *parent = find_parent(c, w->sock, caller_of(w), &new.trace, &new.origin);
	become_child(&new.trace, parent, &new.origin);
	new.trace.flags |= TRACE_KEPT; /* the field says nothing more */
	written_fields.update(&key, &new);
	if (!add_field(w, to.data, &writer, &new.trace))
		written_fields.delete(&key);
	return 0;
}

#endif
#endif
