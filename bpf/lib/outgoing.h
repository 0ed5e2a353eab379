/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * HTTP/2 as a client writes it, from the connection's first byte on: which requests may get a field of ours, and where.
 *
 * In:  the bytes of a message that TCP does not have yet, piece by piece (`carry`). Out: up to MAX_INSERTIONS requests
 * of it (`blocks`), or `alone`: then nothing is done on this connection any more.
 *
 * A request may get the field if its header block is one HEADERS frame that lies within one message, on a stream above all
 * before. Every header block of the connection is followed, field by field (RFC 7541, 6), though no table is kept: a name can
 * only be in a table if it was written before as it is. So whoever writes the name by himself is left alone from there on; and
 * so is whatever is not as it should be, or not foreseen here.
 *
 * Bytes are held together by TCP's numbers, as everywhere: a message that does not begin where the last one has ended is
 * understood if it goes on within the payload of a frame, and else leaves the connection alone, too.
 */
#ifndef AUTOINSTR_OUTGOING_H
#define AUTOINSTR_OUTGOING_H

#ifdef PROPAGATE_HEADERS

#define PREFACE_3 0x0a0d0a0d4d530a0dULL /* CR LF "SM" CR LF CR LF */
#define MAX_INSERTIONS 6 /* in one message, whose pieces the kernel takes 17 of */
#define INSERTIONS 8     /* the same, as the verifier wants it */
#define ITEM 16          /* no item is longer: the name that matters, and what is before it */

enum outgoing_phase {
	OUTGOING_HEADER, /* of a frame */
	OUTGOING_SKIP,   /* bytes that are not looked at, up to the end of the frame */
	OUTGOING_PREFIX, /* of a header block: padding and priority */
	OUTGOING_FIELD,  /* of a field: what it is */
	OUTGOING_NAME,
	OUTGOING_VALUE,  /* its length */
	OUTGOING_TEXT,   /* bytes of a name or value */
};

struct outgoing {
	__u64 base;      /* address of the message's first byte */
	__u32 reach;     /* bytes that lie there in one piece */
	__u32 first;     /* the same, of the first piece that the kernel has: only there something may be inserted */
	__u32 size;      /* of the message */
	__u32 position;  /* in it */
	__u32 number;    /* TCP's, of the byte behind it */
	__u32 begun, next; /* the same, of a frame that is skipped: its payload, and what follows; both 0: none is */
	__u32 remaining; /* bytes of the frame that are not in `carry` either; padding included */
	__u32 text;      /* bytes of a name or value */
	__u32 stream;    /* of the frame */
	__u32 last;      /* highest stream so far */
	__u32 frame;     /* position of the frame */
	__u32 have;      /* bytes in carry, of which an item is made */
	__u32 used;      /* bytes of the item */
	__u32 value;     /* an integer in it */
	__u32 added;     /* bytes that the last turn has read */
	__u32 begins;    /* streams that begin in this message */
	__u32 count;     /* entries of `blocks` */
	__u32 turns;     /* see LOOP() */
	__u32 written;   /* steps of an insertion that are done */
	struct {
		__u32 frame, end, stream;
	} blocks[INSERTIONS];
	__u8 alone;
	__u8 ours;    /* who writes the message is known */
	__u8 phase, then; /* enum outgoing_phase; what comes behind a text */
	__u8 type, flags, padding, wanted;
	__u8 may;     /* the frame is one of those that may get the field */
	__u8 turn;    /* what has become of the last turn */
	__u8 carried; /* bytes of an item that is not complete */
	__u8 within;  /* the item is part of a header block */
	__u8 unused[4];
	__u8 carry[2 * ITEM];
};
/* By address of the socket; inserted when the preface is written, deleted when the kernel destroys it. */
BPF_HASH(outgoing, u64, struct outgoing, MAX_HTTP2);
BPF_ARRAY(blank_outgoing, struct outgoing, 1);

enum { ITEM_TAKEN, ITEM_MORE, ITEM_DOUBT };

/* An integer with the first bits of the item before it (RFC 7541, 5.1); s->used: its bytes, 0 if that is not certain. */
static __always_inline int take_integer(struct outgoing *s, __u8 mask)
{
	const __u8 *at = s->carry;
	__u32 value = at[0] & mask;

	s->used = 1;
	if (value == mask) {
		value += at[1] & 0x7f;
		s->used = 2;
		if (at[1] & 0x80) {
			value += (at[2] & 0x7f) << 7;
			s->used = 3;
			if (at[2] & 0x80)
				return s->have < s->used ? ITEM_MORE : ITEM_DOUBT;
		}
	}
	s->value = value;
	return s->used > s->have ? ITEM_MORE : ITEM_TAKEN;
}

/* Bytes of a name or value come next. */
static __always_inline void expect_text(struct outgoing *s, __u32 size, __u8 then)
{
	s->text = size;
	s->phase = size ? OUTGOING_TEXT : then;
	s->then = then;
}

/* The header of a frame. */
static __always_inline int take_frame(struct outgoing *s)
{
	const __u8 *header = s->carry;
	__u32 stream = frame_stream(header), length = frame_length(header);
	__u8 type = header[3], flags = header[4];

	if (s->have < FRAME_HEADER)
		return ITEM_MORE;
	if (!valid_frame(header, 0) || header[5] & 0x80)
		return ITEM_DOUBT;
	http1_barrier();
	s->used = FRAME_HEADER;
	s->type = type;
	s->flags = flags;
	s->stream = stream;
	s->remaining = length;
	s->padding = 0;
	s->begun = s->next = 0;
	if (type == HTTP2_CONTINUATION || type == HTTP2_PUSH_PROMISE || type == HTTP2_GOAWAY)
		return ITEM_DOUBT;
	if (type != HTTP2_HEADERS) {
		s->begun = s->number - s->size + s->position - s->carried + FRAME_HEADER;
		s->next = s->begun + length;
		s->phase = length ? OUTGOING_SKIP : OUTGOING_HEADER;
		return ITEM_TAKEN;
	}

	__u8 wanted = ((flags & HTTP2_PADDED) >> 3) + (flags & HTTP2_HAS_PRIORITY ? 5 : 0);

	/* a block that goes on in another frame is rare */
	if (!(flags & HTTP2_END_HEADERS) || !(stream & 1) || length <= wanted)
		return ITEM_DOUBT;
	s->frame = s->position;
	s->may = 0;
	if (stream > s->last) {
		s->last = stream;
		s->begins++;
		s->may = s->ours && !s->carried && length <= MAX_BLOCK &&
			 !(flags & ~(HTTP2_END_STREAM | HTTP2_END_HEADERS | HTTP2_HAS_PRIORITY));
	}
	s->wanted = wanted;
	s->phase = wanted ? OUTGOING_PREFIX : OUTGOING_FIELD;
	return ITEM_TAKEN;
}

static __always_inline int take_prefix(struct outgoing *s)
{
	if (s->have < s->wanted)
		return ITEM_MORE;
	if (s->flags & HTTP2_PADDED)
		s->padding = s->carry[0];
	s->used = s->wanted;
	s->phase = OUTGOING_FIELD;
	return ITEM_TAKEN;
}

/* A field begins. */
static __always_inline int take_field(struct outgoing *s)
{
	__u8 first = s->carry[0];
	__u8 mask = first & 0x80 ? 0x7f : first & 0x40 ? 0x3f : first & 0x20 ? 0x1f : 0xf;
	int literal = first < 0x20 || (first & 0xc0) == 0x40;
	int taken = take_integer(s, mask);

	if (taken != ITEM_TAKEN)
		return taken;
	if (literal)
		s->phase = s->value ? OUTGOING_VALUE : OUTGOING_NAME;
	else if (first & 0x80 && !s->value)
		return ITEM_DOUBT;
	return ITEM_TAKEN;
}

static __always_inline int take_name(struct outgoing *s)
{
	__u8 coded = s->carry[0] & 0x80;
	int taken = take_integer(s, 0x7f);
	__u32 size = s->value;

	if (taken != ITEM_TAKEN)
		return taken;
	if (!size)
		return ITEM_DOUBT;
	if (size != (coded ? NAME_SIZE_CODED : NAME_SIZE_PLAIN)) {
		expect_text(s, size, OUTGOING_VALUE);
		return ITEM_TAKEN;
	}
	s->used += size;
	if (s->used > s->have)
		return ITEM_MORE;
	if (coded ? load64(s->carry + 1) == NAME_CODED :
		    load64(s->carry + 1) == NAME_PLAIN && *(__u32 *)(s->carry + 8) == NAME_PLAIN_END)
		return ITEM_DOUBT; /* trace context of its own */
	s->phase = OUTGOING_VALUE;
	return ITEM_TAKEN;
}

static __always_inline int take_value(struct outgoing *s)
{
	int taken = take_integer(s, 0x7f);

	if (taken == ITEM_TAKEN)
		expect_text(s, s->value, OUTGOING_FIELD);
	return taken;
}

static __always_inline int take_item(struct outgoing *s)
{
	switch (s->phase) {
	case OUTGOING_HEADER:
		return take_frame(s);
	case OUTGOING_PREFIX:
		return take_prefix(s);
	case OUTGOING_FIELD:
		return take_field(s);
	case OUTGOING_NAME:
		return take_name(s);
	default:
		return take_value(s);
	}
}

/* A header block has ended. */
static __always_inline void end_outgoing_block(struct outgoing *s)
{
	__u32 at = s->count;

	s->phase = s->padding ? OUTGOING_SKIP : OUTGOING_HEADER;
	if (!s->may || at >= MAX_INSERTIONS || s->position > s->first)
		return;
	s->may = 0;
#ifdef __BPF_TRACING__
	asm volatile("%0 &= %1" : "+r"(at) : "i"(INSERTIONS - 1));
#endif
	s->blocks[at].frame = s->frame;
	s->blocks[at].end = s->position;
	s->blocks[at].stream = s->stream;
	s->count++;
}

/* Bytes that are not looked at. */
static __always_inline void pass_bytes(struct outgoing *s)
{
	__u32 left = s->size - s->position, n = s->phase == OUTGOING_TEXT ? s->text : s->remaining;

	if (n > left)
		n = left;
	s->position += n;
	s->remaining -= n;
	if (s->phase == OUTGOING_TEXT) {
		s->text -= n;
		if (!s->text)
			s->phase = s->then;
	} else if (!s->remaining) {
		s->phase = OUTGOING_HEADER;
	}
}

/* How many bytes of the message an item may have, with those carried. */
static __always_inline __u32 item_limit(const struct outgoing *s)
{
	__u32 left = s->size - s->position, n = (s->phase == OUTGOING_HEADER ? FRAME_HEADER : ITEM) - s->carried;

	if (s->phase != OUTGOING_HEADER && left > s->remaining - s->padding)
		left = s->remaining - s->padding;
	return n < left ? n : left;
}

/* `n` bytes of the message, or fewer, were added to what is carried, and looked at. Returns whether all is as it should be. */
static __always_inline int end_item(struct outgoing *s, __u32 n)
{
	if (s->turn == ITEM_DOUBT)
		return 0;
	if (s->turn == ITEM_TAKEN)
		n = s->used - s->carried;
	s->carried = s->turn == ITEM_TAKEN ? 0 : s->have;
	s->position += n;
	if (s->within)
		s->remaining -= n;
	http1_barrier();
	if (s->within && (s->remaining < s->padding || s->text > s->remaining - s->padding))
		return 0;
	/* nothing more can come of it */
	return s->turn == ITEM_TAKEN || (s->have < ITEM && !(s->within && s->remaining == s->padding));
}

/* Reads the next bytes of the message behind what is carried; returns how many, 0: they can't be had. */
static __always_inline __u32 read_item(struct sk_msg_md *message, struct outgoing *s)
{
	__u32 from = s->position, n = item_limit(s);
	__u64 address = s->base + from;

	if (from + n > s->reach) {
		s->reach = 0; /* it may be elsewhere from here on */
		if (bpf_msg_pull_data(message, from, from + n, 0))
			return 0;
		address = address_of((void *)(long)message->data);
	}
	if (bpf_probe_read_kernel(s->carry + at_most(s->carried, ITEM), at_most(n, ITEM), (void *)address))
		return 0;
	s->have = s->carried + n;
	s->within = s->phase != OUTGOING_HEADER;
	return n;
}

struct message_at_hand {
	struct sk_msg_md *message;
	struct outgoing *s;
};

/* One step through the message; returns whether there is another one. */
APART(turn_of_outgoing, struct message_at_hand)
{
	struct outgoing *s = at->s;

	if (s->position >= s->size)
		return 0;
	if (s->phase == OUTGOING_SKIP || s->phase == OUTGOING_TEXT) {
		pass_bytes(s);
	} else {
		s->added = read_item(at->message, s);
		http1_barrier();
		s->turn = s->added ? take_item(s) : ITEM_DOUBT;
		http1_barrier();
		s->alone = !end_item(s, s->added);
	}
	http1_barrier();
	if (!s->alone && s->phase == OUTGOING_FIELD && s->remaining == s->padding)
		end_outgoing_block(s);
	return !s->alone;
}

/* The connection's first message: is it HTTP/2? */
static __always_inline int begins_outgoing(struct sk_msg_md *message, __u64 sk, __u32 number)
{
	__u32 initial = kernel_u32(sk + OFFSET_tcp_sock_snd_una) - (__u32)kernel_u64(sk + OFFSET_tcp_sock_bytes_acked);
	__u64 words[3] = {};

	/* of the initial number, SYN's, it is counted that it was acknowledged */
	if (number != initial + 1 || message->size < PREFACE_SIZE)
		return 0;
	if ((__u64)(message->data_end - message->data) < PREFACE_SIZE && bpf_msg_pull_data(message, 0, PREFACE_SIZE, 0))
		return 0;
	bpf_probe_read_kernel(words, sizeof(words), (void *)address_of((void *)(long)message->data));
	return words[0] == PREFACE_1 && words[1] == PREFACE_2 && words[2] == PREFACE_3;
}

static __always_inline struct outgoing *new_outgoing(__u64 sk, __u32 number)
{
	zero_key zero = 0;
	struct outgoing *s, *blank = blank_outgoing.lookup((__u32 *)&zero);

	if (!blank)
		return NULL;
	outgoing.update(&sk, blank);
	s = outgoing.lookup(&sk);
	if (!s)
		return NULL;
	s->number = number;
	s->phase = OUTGOING_SKIP;
	s->remaining = PREFACE_SIZE;
	return s;
}

/*
 * Looks at a message: it has to go on where the last one has ended, or within the payload of a frame that is skipped, of
 * which TCP had no room for all. Returns whether it does.
 */
static __always_inline int begin_outgoing(struct sk_msg_md *message, struct outgoing *s, __u32 number, int ours)
{
	__u64 first = message->data_end - message->data;

	if (number != s->number) {
		if (number - s->begun >= s->next - s->begun)
			return 0;
		s->phase = OUTGOING_SKIP;
		s->remaining = s->next - number;
		s->carried = 0;
	}
	s->size = message->size;
	s->number = number + s->size;
	s->position = 0;
	s->begins = 0;
	s->count = 0;
	s->may = 0;
	s->ours = ours;
	s->base = address_of((void *)(long)message->data);
	s->first = s->reach = first;
	return 1;
}

#endif
#endif
