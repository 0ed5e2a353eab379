/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The same for HTTP/2: a traceparent field at the end of header blocks that Go's clients write, those of net/http, of
 * golang.org/x/net and of grpc-go. Where these programs are attached is known to autoinstr/libraries/go_propagate_http2.py:
 *
 * func (cc *ClientConn) writeHeaders(...), or grpc-go's loopyWriter.writeHeader, is about to call (*Framer).WriteHeaders(HeadersFrameParam{
 * ...}). That structure is too large for registers, so it lies where the stack pointer points to: the stream, and address, size
 * and capacity of the block, which WriteHeaders copies into a frame. What has written the block, and what the frame goes to, is
 * held by a lock that this goroutine has, or belongs to it alone.
 *
 * So what the program sends is changed by one write: of address, size and capacity on the stack, in this order, each of which
 * by itself leaves a right block. Before that the field has been put behind the block, where its buffer ends in room that
 * nobody uses; or, where it is too small, both into the room of the buffer that the frame is to be copied to, which that overwrites.
 *
 * Whether the client makes trace context by itself is asked of its encoder (RFC 7541): a name that a block does not spell out
 * is in its table, of which each entry is looked at once.
 */
#ifndef AUTOINSTR_PROBES_GO_PROPAGATE_HTTP2_H
#define AUTOINSTR_PROBES_GO_PROPAGATE_HTTP2_H

#ifdef PROPAGATE_GO

#define BLOCK_WINDOWS (MAX_BLOCK / WINDOW)
#define TABLE_LIMIT 4096  /* bytes; a larger table is left alone: see MAX_BLOCK */
#define TABLE_ENTRIES 128 /* more than are in such a one, since each counts for 32 bytes and its texts (RFC 7541, 4.1) */
#define TABLE_ENTRY 40    /* bytes: hpack.HeaderField, which begins with its name */
#define STACK_BLOCK 8     /* of HeadersFrameParam */
#define FRAMES 8          /* grpc-go's framer: where its http2.Framer is; its writer comes first */

/* golang.org/x/net/http2.HeadersFrameParam, or what it begins with */
struct go_header_frame {
	__u32 stream, unused;
	__u64 block, size, room;
	__u8 ends, whole, padding, unused2[5];
};

/* golang.org/x/net/http2/hpack.Encoder, or what it begins with: its table */
struct go_encoder {
	__u64 entries, count, room;
	__u64 evicted; /* entries that were in it before those */
	__u64 names, pairs;
	__u32 size, limit;
	__u64 rest[4];
	__u64 output; /* a bytes.Buffer, which begins with its bytes' address */
};

struct go_text {
	__u64 at, size;
};

struct block_at_hand {
	struct work *w;
	__u64 at, end;
	__u64 to;  /* where it is copied; 0: nowhere */
	__u64 own; /* highest bit: it spells that name */
};

/* It is not, but the verifier does not know; older ones learn nothing from a comparison for being equal. */
static __always_inline __u64 not_zero(__u64 size)
{
	asm volatile("if %0 > 0 goto +1\n%0 = 1" : "+r"(size));
	return size;
}

APART(look_for_name, struct block_at_hand)
{
	struct work *w = at->w;
	__u64 size = at->end - at->at;

	/* what begins in this window may end in the next one */
	size = at_most(size, WINDOW + 8);
	__builtin_memset(w->window, 0, WINDOW + 8);
	if (bpf_probe_read_user(w->window, size, (void *)at->at))
		return 1;
	if (at->to && bpf_probe_write_user((void *)at->to, w->window, not_zero(size)))
		return 1;
	w->scan.seen = 0;
	w->scan.size = size;

	LOOP_OVER (i, w->turns, WINDOW / 8) {
		http1_barrier();
#ifdef MAY_GOTO
		if (8 * i >= w->scan.size)
			continue;
#endif
#pragma unroll
		for (int j = 0; j < 8; j++) {
			__u64 word = word_at(w->window, 8 * i + j);

			w->scan.seen |= if_zero(word ^ NAME_CODED) | if_zero(word ^ NAME_PLAIN);
		}
	}
	at->own |= w->scan.seen;
	return 0;
}

/* Looks at a header block, and copies it if that is wanted; returns whether that could be done, and it does not spell the name. */
static __always_inline int is_bare_block(struct work *w, __u64 begin, __u64 size, __u64 to)
{
	struct block_at_hand block = {.w = w, .at = begin, .end = begin + size, .to = to};

#pragma unroll
	for (int i = 0; i < BLOCK_WINDOWS; i++) {
		if (block.at >= block.end)
			break;
		if (TURN(look_for_name, &block))
			return 0;
		http1_barrier();
		block.at += WINDOW;
		if (block.to)
			block.to += WINDOW;
	}
	return !(block.own >> 63);
}

struct entry_at_hand {
	struct http2 *h;
	__u64 at;
};

/* Returns whether it can't be told. */
APART(look_at_entry, struct entry_at_hand)
{
	struct go_text name;
	__u64 text[2] = {};

	if (bpf_probe_read_user(&name, sizeof(name), (void *)at->at))
		return 1;
	at->at += TABLE_ENTRY;
	if (name.size != NAME_SIZE_PLAIN)
		return 0;
	if (bpf_probe_read_user(text, NAME_SIZE_PLAIN, (void *)name.at))
		return 1;
	if (text[0] == NAME_PLAIN && text[1] == NAME_PLAIN_END >> 8)
		at->h->own = 1;
	return 0;
}

/* Is there no trace context in the table of this encoder, which has written the block? */
static __always_inline int is_bare_table(struct work *w, struct http2 *h, __u64 at, __u64 block)
{
	struct go_encoder encoder;

	if (h->own || bpf_probe_read_user(&encoder, sizeof(encoder), (void *)at) || encoder.limit > TABLE_LIMIT ||
	    encoder.count > TABLE_ENTRIES || user_u64(encoder.output) != block)
		return 0;

	__u64 end = encoder.evicted + encoder.count, next = h->entries;
	if (next < encoder.evicted || next > end)
		next = encoder.evicted;

	struct entry_at_hand entry = {.h = h, .at = encoder.entries + TABLE_ENTRY * (next - encoder.evicted)};
	w->part_size = end - next;
	w->turn = 0;
	LOOP_OVER (i, w->turns, TABLE_ENTRIES) {
		http1_barrier();
		if (i >= w->part_size || w->turn)
			break;
		w->turn = TURN(look_at_entry, &entry);
	}
	http1_barrier();
	if (w->turn)
		return 0;
	h->entries = end;
	return !h->own;
}

/* May this connection's next stream be given a field? Of an older one it has to be known which streams are new. */
static __always_inline int awaits_stream(const struct connection *c, const struct http2 *h, __u32 stream)
{
	if (c->ignored || c->secret || !c->http2 || c->role != ROLE_CLIENT || (c->other && !c->session))
		return 0;
	return h->last ? stream > h->last : !h->old;
}

/* The room behind what lies in grpc-go's bufWriter; 0: not so much. */
static __always_inline __u64 room_of_rpc(const struct go_fields *l, __u64 writer, __u64 size)
{
	__u64 at = writer + l->rpc_buffer, used = user_u64(writer + l->rpc_buffered);
	struct go_text buffer;

	if (l->rpc_by_handle)
		at = user_u64(at);
	if (bpf_probe_read_user(&buffer, sizeof(buffer), (void *)at) || used > buffer.size || buffer.size - used < size)
		return 0;
	return buffer.at + used;
}

/* The room behind what lies in the bufio.Writer that frames go to; 0: not so much. */
static __always_inline __u64 room_of_buffered(__u64 at, __u64 size)
{
	struct go_writer writer;

	if (bpf_probe_read_user(&writer, sizeof(writer), (void *)at) || room_of(&writer) < size)
		return 0;
	return writer.buffer + writer.used;
}

/* What the stack is to say of the block. */
struct go_block {
	__u64 at, size, room;
};

/* The block at hand becomes one that ends with the field of this stream; returns whether it has. */
static __always_inline int add_to_block(struct pt_regs *ctx, struct work *w, const struct go_block *block,
					const struct trace *t)
{
	__u8 *field = w->window;

	write_block_field(field, t);
	field[BLOCK_FIELD - 1] = last_of_value(t);
	return !bpf_probe_write_user((void *)(block->at + block->size - BLOCK_FIELD), field, BLOCK_FIELD) &&
	       !bpf_probe_write_user((void *)(ctx->sp + STACK_BLOCK), (void *)block, sizeof(*block));
}

static __always_inline int propagate_block(struct pt_regs *ctx, __u32 pid, struct go_fields *l, struct go_http2_client *of,
					   int is_rpc)
{
	__u64 loaded = PROBED_AT(ctx) - of->call, self = user_u64(ctx->sp + of->self);
	__u64 framer = user_u64(self + of->framer), writer = is_rpc ? user_u64(framer) : user_u64(self + of->writer);
	struct go_header_frame frame;
	int wrapped = 0;

	if (is_rpc)
		framer = user_u64(framer + FRAMES);
	if (!of->call || framer != GO_ARGUMENT_1(ctx) || bpf_probe_read_user(&frame, sizeof(frame), (void *)ctx->sp))
		return 0;
	if (!(frame.stream & 1) || frame.whole != 1 || frame.padding || !frame.size || frame.size > MAX_BLOCK ||
	    frame.size > frame.room)
		return 0;

	__u64 key = key_for_certain(loaded, pid, l, self + of->conn, &wrapped);
	struct connection *c = key ? connections.lookup(&key) : NULL;
	struct http2 *h = c ? http2_connections.lookup(&key) : NULL;
	if (!h || !awaits_stream(c, h, frame.stream) || stream_of(h, frame.stream))
		return 0;

	struct work *w = session_work();
	if (!w || !is_bare_table(w, h, user_u64(self + of->encoder), frame.block))
		return 0;

	struct go_block block = {.at = frame.block, .size = frame.size + BLOCK_FIELD, .room = frame.room};
	__u64 to = 0;
	if (frame.room < block.size) {
		to = is_rpc ? room_of_rpc(l, writer, block.size) : room_of_buffered(writer, block.size);
		if (!to)
			return 0;
		block.at = to;
		block.room = block.size;
	}
	http1_barrier();
	if (!is_bare_block(w, frame.block, frame.size, to))
		return 0;

	if (!is_rpc)
		h->plain = 1;
	struct caller by = {.goroutine = GOROUTINE(ctx), .pid = pid, .tid = bpf_get_current_pid_tgid()};
	struct stream *st = place_early(c, h, key, by, frame.stream, 0);
	if (!st)
		return 0;

	http1_barrier();
	st->added = add_to_block(ctx, w, &block, &st->trace);
	return 0;
}

/* net/http's client */
int propagate_go_http2(struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	struct go_fields *l = fields_of_target(pid);

	return l ? propagate_block(ctx, pid, l, &l->h2, 0) : 0;
}

/* golang.org/x/net's */
int propagate_go_http2_x(struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	struct go_fields *l = fields_of_target(pid);

	return l ? propagate_block(ctx, pid, l, &l->x, 0) : 0;
}

/* grpc-go's */
int propagate_go_rpc(struct pt_regs *ctx)
{
	__u32 pid = current_pid();
	struct go_fields *l = fields_of_target(pid);

	return l ? propagate_block(ctx, pid, l, &l->rpc, 1) : 0;
}

#endif
#endif
