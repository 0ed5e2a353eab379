/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Programs that carry trace contexts to other hosts. They run where TCP makes segments and takes them, for sockets of the
 * control group that they are attached to; once detached, the sockets go on without.
 */
#ifndef AUTOINSTR_PROBES_PROPAGATE_H
#define AUTOINSTR_PROBES_PROPAGATE_H

#ifdef PROPAGATE

#ifdef PROPAGATE_TCP

/*
 * The option: 28 bytes, which is what timestamps leave room for. Of those set aside for experiments (RFC 4727), with an
 * identifier (RFC 6994) whose last bits are flags.
 */
#define OPTION_KIND 253
#define OPTION_ID 0xa7
#define OPTION_VERSION 0x10
#define OPTION_FLAGS 7 /* TRACE_SAMPLED, TRACE_DECIDED, and: */
#define OPTION_KEPT 4  /* TRACE_KEPT */
struct trace_option {
	__u8 kind;
	__u8 size;
	__u8 id;
	__u8 version;
	__u8 trace_id[16];
	__u8 span_id[8];
};
_Static_assert(sizeof(struct trace_option) == 28, "");

#define TCP_HEADER 20
#define TIMESTAMPS 12 /* with what pads them: the one option that stands before ours */

/* TCP's number of the first byte of the segment at hand; returns whether it is known. */
static __always_inline int segment_number(struct bpf_sock_ops *ops, __u32 *number)
{
	__u8 *header = (__u8 *)(long)ops->skb_data, *end = (__u8 *)(long)ops->skb_data_end;

	if (header + TCP_HEADER > end)
		return 0;
	*number = __builtin_bswap32(*(__u32 *)(header + 4));
	return 1;
}

/* Reads the option, if it is at this offset of the segment's header; returns whether it is. */
static __always_inline int read_option(struct bpf_sock_ops *ops, __u32 at, struct trace *t)
{
	__u8 *header = (__u8 *)(long)ops->skb_data, *end = (__u8 *)(long)ops->skb_data_end;
	struct trace_option *option = (struct trace_option *)(header + at);

	if (header + at + sizeof(*option) > end)
		return 0;
	if (option->kind != OPTION_KIND || option->size != sizeof(*option) || option->id != OPTION_ID ||
	    (option->version & ~OPTION_FLAGS) != OPTION_VERSION)
		return 0;
	__builtin_memcpy(t->id, option->trace_id, sizeof(t->id));
	__builtin_memcpy(&t->span, option->span_id, sizeof(t->span));
	t->flags = option->version & (TRACE_SAMPLED | TRACE_DECIDED);
	if (option->version & OPTION_KEPT)
		t->flags |= TRACE_KEPT;
	return t->span && (t->id[0] | t->id[1]);
}

static __always_inline void note_arrival(struct bpf_sock_ops *ops, __u64 sk)
{
	struct arrival a = {}, *last;

	if (!read_option(ops, TCP_HEADER + TIMESTAMPS, &a.trace) && !read_option(ops, TCP_HEADER, &a.trace))
		return;
	if (!segment_number(ops, &a.number))
		return;
	/* one write of many segments carries it on each of them: the first is it */
	last = arrivals.lookup(&sk);
	if (last && last->trace.span == a.trace.span)
		return;
	arrivals.update(&sk, &a);
}

/* Is there room for the option, in the segment at hand, or in the size that segments are to have? */
static __always_inline void make_room(struct bpf_sock_ops *ops, struct announcement *a)
{
	__u32 ahead = a->number - ops->snd_nxt;

	if (ops->args[0] == BPF_WRITE_HDR_TCP_CURRENT_MSS) {
		/* as long as the first byte has not gone; what is sent again goes without */
		a->room = (__s32)ahead >= 0 && !bpf_reserve_hdr_opt(ops, sizeof(struct trace_option), 0);
	} else if (!ahead && a->room && ops->skb_len) {
		/* only behind a size that allows for it: a segment must not become larger than its way allows */
		bpf_reserve_hdr_opt(ops, sizeof(struct trace_option), 0);
	}
}

static __always_inline void write_option(struct bpf_sock_ops *ops, struct announcement *a)
{
	struct trace_option option = {.kind = OPTION_KIND, .size = sizeof(option), .id = OPTION_ID};
	__u32 number;

	if (!segment_number(ops, &number) || number != a->number)
		return;
	option.version = OPTION_VERSION | (a->trace.flags & (TRACE_SAMPLED | TRACE_DECIDED));
	if (a->trace.flags & TRACE_KEPT)
		option.version |= OPTION_KEPT;
	__builtin_memcpy(option.trace_id, a->trace.id, sizeof(option.trace_id));
	__builtin_memcpy(option.span_id, &a->trace.span, sizeof(option.span_id));
	if (!bpf_store_hdr_opt(ops, &option, sizeof(option), 0)) {
		a->pending = 0;
		a->sent = 1;
	}
}

/* The segment with the option had to be sent again, or was acknowledged: that is what is asked of the other end's address. */
static __always_inline void note_outcome(__u64 sk, struct announcement *a, int refused)
{
	struct host to = {};
	__u32 one = 1, *times;

	a->sent = 0;
	read_remote(to.address, sk, sock_family(sk));
	times = refusals.lookup(&to);
	if (!refused) {
		if (times)
			refusals.delete(&to);
	} else if (times) {
		if (++*times >= MAX_REFUSALS)
			announcements.delete(&sk);
	} else {
		refusals.update(&to, &one);
	}
}

/* sockops: TCP is at work on a socket. */
int propagate_tcp(struct bpf_sock_ops *ops)
{
	__u64 sk = address_of(ops->sk);
	struct announcement *a;

	switch (ops->op) {
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		/* only segments with an option that the kernel does not know are shown */
		bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_PARSE_UNKNOWN_HDR_OPT_CB_FLAG);
		/* a first request may come with the acknowledgement that establishes the connection */
	case BPF_SOCK_OPS_PARSE_HDR_OPT_CB:
		note_arrival(ops, sk);
		return 1;
	}

	a = announcements.lookup(&sk);
	if (!a)
		return 1;
	switch (ops->op) {
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		bpf_sock_ops_cb_flags_set(ops, ops->bpf_sock_ops_cb_flags | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG |
						       BPF_SOCK_OPS_RETRANS_CB_FLAG);
		break;
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
		if (a->pending)
			make_room(ops, a);
		else if (a->sent && (__s32)(ops->snd_una - a->number) > 0)
			note_outcome(sk, a, 0);
		break;
	case BPF_SOCK_OPS_WRITE_HDR_OPT_CB:
		if (a->pending)
			write_option(ops, a);
		break;
	case BPF_SOCK_OPS_RETRANS_CB:
		if (a->sent && ops->args[0] == a->number)
			note_outcome(sk, a, 1);
		break;
	}
	return 1;
}

#endif

#ifdef PROPAGATE_HEADERS

#define MAX_HEAD 8192 /* a longer one is left alone */
#define BLANK_LINE 0x0a0d0a0d
#define MAX_JOINED 8192 /* a larger message is looked at in the pieces that the kernel has */

/* Frames, and parts of fields, that one run looks at. */
#ifndef ITEMS_A_RUN
#ifdef MAY_GOTO
#define ITEMS_A_RUN 512
#else
#define ITEMS_A_RUN 48
#endif
#endif

/* Sockets whose messages `propagate_message` is shown, by address; the kernel deletes them when they close. */
BPF_SOCKHASH(propagating, u64, MAX_CONNECTIONS);

/*
 * sockops: connections of those who are watched, as long as there is a place for their addresses, which tells
 * `propagate_option` of them.
 */
int propagate_headers(struct bpf_sock_ops *ops)
{
	__u8 how = SHOWN;
	__u64 sk;

	if (ops->op != BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB)
		return 1;
	sk = address_of(ops->sk);
	if (announcements.lookup(&sk) && !shown.insert(&sk, &how))
		propagating.sock_hash_update(ops, &sk, BPF_ANY);
	return 1;
}

#define SO_ZEROCOPY 60

/*
 * cgroup/setsockopt: a process sets an option of a socket. Of what is sent without copying (MSG_ZEROCOPY) on a socket in a
 * map of sockets, Linux 6.5 and what was taken over from there tell completion once for every few pages in place of once
 * for the call, and where these notices take more memory than they may, the call ends in the middle. So a socket is either
 * in that map, or may send so; for one that is, the option is refused, as by a kernel that does not have it.
 */
int propagate_option(struct bpf_sockopt *option)
{
	__u8 how = KEPT, state, *known;
	__u64 sk;

	if (option->level != SOL_SOCKET || option->optname != SO_ZEROCOPY)
		return 1;
	sk = address_of(option->sk);
	if (kernel_u16(sk + OFFSET_sock_sk_protocol) != IPPROTO_TCP)
		return 1;
	known = shown.lookup(&sk);
	if (known)
		return *known != SHOWN;
	/* what is connected by now does not come into the map any more */
	state = kernel_u16(sk + OFFSET_sock_common_skc_state);
	if (state != BPF_TCP_CLOSE && state != BPF_TCP_SYN_SENT)
		return 1;
	return !shown.insert(&sk, &how);
}

/*
 * Will TCP take so many bytes at once? Where it takes but a part, the process is told how many of its bytes were taken, and
 * that is only right if what was inserted is before them. The kernel counts the memory that bytes take: up to five times as
 * many, in small segments, and that of the first one.
 */
static __always_inline int has_room(__u64 sk, __u32 bytes)
{
	__u32 queued = kernel_u32(sk + OFFSET_sock_sk_wmem_queued), limit = kernel_u32(sk + OFFSET_sock_sk_sndbuf);
	__u64 pressure = kernel_u64(kernel_u64(sk + OFFSET_sock_common_skc_prot) + OFFSET_proto_memory_pressure);

	return queued + 6 * bytes + 4096 < limit && !kernel_u64(pressure);
}

/* A message of HTTP/2 begins. What is in a message that the kernel has in small pieces is put together. */
static __always_inline void look_at_message(struct sk_msg_md *message, __u64 sk, const struct announcement *a)
{
	__u32 number = kernel_u32(sk + OFFSET_tcp_sock_write_seq), size = message->size;
	struct outgoing *s = outgoing.lookup(&sk);
	int ours = number == a->number && (__u32)bpf_get_current_pid_tgid() == a->by.tid;

	if (s && s->alone)
		return;
	if (!s && begins_outgoing(message, sk, number))
		s = new_outgoing(sk, number);
	if (!s)
		return;

	__u64 piece = message->data_end - message->data;
	if (piece && piece < size && size <= MAX_JOINED && bpf_msg_pull_data(message, 0, size, 0)) {
		s->alone = 1;
		return;
	}
	if (begin_outgoing(message, s, number, ours))
		message_steps.call(message, MESSAGE_FRAMES);
	s->alone = 1;
}

/*
 * sk_msg: bytes that a process has written, before TCP has them. Where they are the head of the request that the call was
 * announced with, its last field becomes ours. All else passes as it is.
 */
int propagate_message(struct sk_msg_md *message)
{
	__u64 sk = address_of(message->sk);
	struct announcement *a = announcements.lookup(&sk);

	if (!a)
		return SK_PASS;
	if (a->frames) {
		look_at_message(message, sk, a);
		return SK_PASS;
	}
	if (!a->pending || !a->head || a->field)
		return SK_PASS;
	if (kernel_u32(sk + OFFSET_tcp_sock_write_seq) != a->number)
		return SK_PASS;
	a->pending = 0;

	__u64 head = a->head;
	if (head < 16 || head > MAX_HEAD || message->size < head || !has_room(sk, head + FIELD_SIZE))
		return SK_PASS;
	head = at_most(head, MAX_HEAD);

	__u8 *data = (__u8 *)(long)message->data, *end = (__u8 *)(long)message->data_end;
	if (data + head > end) {
		/* not in one piece */
		if (bpf_msg_pull_data(message, 0, head, 0))
			return SK_PASS;
		data = (__u8 *)(long)message->data;
		end = (__u8 *)(long)message->data_end;
		if (data + head > end)
			return SK_PASS;
	}
	/* the process may have changed the bytes since they were looked at */
	if (data + 8 > end || *(__u64 *)data != a->starts)
		return SK_PASS;

	__u8 *tail = data + at_most(head - 4, MAX_HEAD);
	if (tail + 4 > end || *(__u32 *)tail != BLANK_LINE)
		return SK_PASS;

	head -= 2;
	if (bpf_msg_push_data(message, head, FIELD_SIZE, 0))
		return SK_PASS;
	if (!bpf_msg_pull_data(message, head, head + FIELD_SIZE, 0)) {
		data = (__u8 *)(long)message->data;
		end = (__u8 *)(long)message->data_end;
		if (data + FIELD_SIZE <= end) {
			write_field(data, &a->trace);
			return SK_PASS;
		}
	}
	/* does not happen, since what was pushed is in one piece; but then it has to go again */
	return bpf_msg_pop_data(message, head, FIELD_SIZE, 0) ? SK_DROP : SK_PASS;
}

/* sk_msg, tail call: goes through a message of HTTP/2. */
PROGRAM(propagate_frames, struct sk_msg_md *message)
{
	__u64 sk = address_of(message->sk);
	struct outgoing *s = outgoing.lookup(&sk);
	int next = 0;

	if (!s || s->alone)
		return SK_PASS;

	struct message_at_hand at = {message, s};
	TURNS(turns, s->turns, ITEMS_A_RUN);
	do {
		next = TURN(turn_of_outgoing, &at);
	} while (ANOTHER(turns) && next);
	http1_barrier();
	if (next) {
		message_steps.call(message, MESSAGE_FRAMES);
		s->alone = 1; /* more than can be followed */
	}
	if (s->alone || !s->count)
		return SK_PASS;

	__u32 at_last = s->count - 1;
	if (has_room(sk, s->blocks[at_last & (INSERTIONS - 1)].end + s->count * BLOCK_FIELD))
		message_steps.call(message, MESSAGE_INSERT);
	return SK_PASS;
}

/* The place of the stream with this number, which is about to be written; NULL: it may still change. */
static __always_inline const struct trace *place_written(__u64 sk, const struct outgoing *s, __u32 number)
{
	struct announcement *a = announcements.lookup(&sk);
	struct connection *c = connections.lookup(&sk);
	struct http2 *h = http2_connections.lookup(&sk);

	if (!a || !c || !h || c->role != ROLE_CLIENT || h->old)
		return NULL;

	struct stream *st = place_early(c, h, sk, a->by, number, s->begins > 1);
	return st ? &st->trace : NULL;
}

/*
 * The field goes in before the last byte of a header block, which is written in front of it once more, and then over where it
 * was: for not all kernels insert at the end of a message. Only the piece that is inserted is new: the rest of the frame, in
 * front of it, is where it was. Returns what becomes of the message.
 */
static __always_inline int insert_field(struct sk_msg_md *message, struct outgoing *s, __u32 frame, __u32 end, __u32 stream,
					const struct trace *t)
{
	__u8 last, *data;
	__u32 length, at = end - 1;

	if (bpf_msg_pull_data(message, frame, frame + FRAME_HEADER, 0))
		return SK_PASS;
	data = (__u8 *)(long)message->data;
	if (data + FRAME_HEADER > (__u8 *)(long)message->data_end)
		return SK_PASS;
	length = frame_length(data);
	if (length != end - frame - FRAME_HEADER || data[3] != HTTP2_HEADERS || frame_stream(data) != stream)
		return SK_PASS;
	if (bpf_msg_pull_data(message, at, end, 0))
		return SK_PASS;
	data = (__u8 *)(long)message->data;
	if (data + 1 > (__u8 *)(long)message->data_end)
		return SK_PASS;
	last = *data;
	if (bpf_msg_push_data(message, at, BLOCK_FIELD, 0))
		return SK_PASS;

	if (!bpf_msg_pull_data(message, at, at + BLOCK_FIELD, 0)) {
		data = (__u8 *)(long)message->data;
		if (data + BLOCK_FIELD <= (__u8 *)(long)message->data_end) {
			data[0] = last;
			write_block_field(data + 1, t);
			s->written = 1;
		}
	}
	http1_barrier();
	if (s->written && !bpf_msg_pull_data(message, end + BLOCK_FIELD - 1, end + BLOCK_FIELD, 0)) {
		data = (__u8 *)(long)message->data;
		if (data + 1 <= (__u8 *)(long)message->data_end) {
			*data = last_of_value(t);
			s->written = 2;
		}
	}
	http1_barrier();
	if (s->written == 2 && !bpf_msg_pull_data(message, frame, frame + FRAME_HEADER, 0)) {
		data = (__u8 *)(long)message->data;
		if (data + FRAME_HEADER <= (__u8 *)(long)message->data_end) {
			length += BLOCK_FIELD;
			data[0] = 0; /* it is no longer than MAX_BLOCK and the field */
			data[1] = length >> 8;
			data[2] = length;
			s->written = 0;
			s->number += BLOCK_FIELD;
			if (s->next != s->begun) {
				s->begun += BLOCK_FIELD;
				s->next += BLOCK_FIELD;
			}
			return SK_PASS;
		}
	}
	/* does not happen, since all of it is where it can be written; but then nobody may get it */
	s->alone = 1;
	return SK_DROP;
}

/* sk_msg, tail call: the last of the requests that were found gets its field, so that those before it stay where they are. */
PROGRAM(propagate_insert, struct sk_msg_md *message)
{
	__u64 sk = address_of(message->sk);
	struct outgoing *s = outgoing.lookup(&sk);

	if (!s || s->alone || !s->count)
		return SK_PASS;

	__u64 i = --s->count & (INSERTIONS - 1);
	__u32 frame = s->blocks[i].frame, end = s->blocks[i].end, stream = s->blocks[i].stream;
	const struct trace *t = place_written(sk, s, stream);

	if (t && insert_field(message, s, frame, end, stream, t) == SK_DROP)
		return SK_DROP;
	if (s->count)
		message_steps.call(message, MESSAGE_INSERT);
	return SK_PASS;
}

#endif
#endif
#endif
