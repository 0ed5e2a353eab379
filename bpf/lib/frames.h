/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * HTTP/2: walks the frames of a system call, tells header blocks as they come, and streams when they are over.
 *
 * What a header block says is not understood here: that needs all blocks before it, and a decoder (RFC 7541). But which
 * stream begins and ends when, and how much it has moved, is; so that the counts are right when nobody reads the ring.
 */
#ifndef AUTOINSTR_FRAMES_H
#define AUTOINSTR_FRAMES_H

/* Frames, or parts of a header block, that one run looks at. */
#ifndef FRAMES_A_RUN
#define FRAMES_A_RUN 64
#endif
#define MESSAGE_PREFIX 5        /* of gRPC: compressed or not, length */
#define MESSAGE_MAX (1 << 26)   /* longer ones are something else */
#define REFUSED_STREAM 7        /* RFC 9113, 7 */
#define ERROR_CODE_MAX 255
/* Of an exchange: all but the fragment; and what struct stream begins with. */
#define PART_SIZE (sizeof(struct exchange) - HTTP2_FRAGMENT)
#define REQUEST_SIZE (__builtin_offsetof(struct exchange, sequence) - __builtin_offsetof(struct exchange, request_start))

/* Where a part is made. */
static __always_inline struct exchange *told_of(struct work *w)
{
	return (struct exchange *)w->window;
}

static __always_inline struct http2_part *part_of(struct exchange *x)
{
	return (struct http2_part *)x->head;
}

static __always_inline struct http2 *new_http2(__u64 key, int old)
{
	zero_key zero = 0;
	struct http2 *h, *blank = blank_http2.lookup((__u32 *)&zero);

	if (!blank)
		return NULL;
	http2_connections.update(&key, blank);
	h = http2_connections.lookup(&key);
	if (!h)
		return NULL;
	h->id = bpf_ktime_get_ns() << 8 | (bpf_get_smp_processor_id() & 0xff);
	h->old = old;
	h->sides[0].unsure = old;
	h->sides[1].unsure = old;
	return h;
}

/* The slot becomes what all parts are made from. */
static __always_inline void be_template(struct connection *c, const struct http2 *h)
{
	struct http2_part *part = part_of(&c->slot);

	c->slot.request_start = 0;
	c->slot.request_end = 0;
	c->slot.response_start = 0;
	c->slot.response_end = 0;
	c->slot.request_body = 0;
	c->slot.response_body = 0;
	c->slot.sequence = 0;
	c->slot.name = 0;
	__builtin_memset(&c->slot.trace, 0, sizeof(c->slot.trace));
	c->slot.status = 0;
	c->slot.head_size = HEAD_SIZE;
	c->slot.protocol = PROTOCOL_HTTP2;
	c->slot.role = c->role;
	c->slot.error = 0;
	c->slot.traceparent = 0;
	part->id = h->id;
	part->stream = 0;
	part->number = 0;
	part->request_frames = 0;
	part->response_frames = 0;
	part->size = 0;
	part->flags = h->old ? HTTP2_TABLE_OLD : 0;
	part->unused = 0;
}

/* The frames of a connection; one that had to make room for others is met again in the middle. */
static __always_inline struct http2 *http2_of(struct connection *c, __u64 key)
{
	struct http2 *h = http2_connections.lookup(&key);

	if (h)
		return h;
	h = new_http2(key, 1);
	if (!h)
		return NULL;
	h->sides[0].phase = HTTP2_SEARCH;
	h->sides[1].phase = HTTP2_SEARCH;
	be_template(c, h);
	return h;
}

static __always_inline __u16 error_of(__u32 code)
{
	return ERROR_HTTP2 + (code < ERROR_CODE_MAX ? code : ERROR_CODE_MAX);
}

/* Does the current call move what the client of the connection sends? */
static __always_inline int is_request(const struct connection *c, const struct work *w)
{
	return (c->role == ROLE_SERVER) == (w->incoming != 0);
}

/* The direction of a connection in which its client sends. */
static __always_inline struct http2_side *side_of_client(const struct connection *c, struct http2 *h)
{
	return &h->sides[(c->role == ROLE_SERVER) & 1];
}

static __always_inline struct stream *stream_of(const struct http2 *h, __u32 stream)
{
	struct stream_key key = {.id = h->id, .stream = stream};

	return streams.lookup(&key);
}

static __always_inline __u32 *place_of(struct http2 *h, __u32 stream)
{
	return &h->places[(stream >> 1) & (HTTP2_PLACES - 1)];
}

/* The i-th of them: less than HTTP2_PLACES, but the verifier may not know. */
static __always_inline __u32 *place_numbered(struct http2 *h, __u64 i)
{
#ifdef __BPF_TRACING__
	asm volatile("%0 &= %1" : "+r"(i) : "i"(HTTP2_PLACES - 1));
#endif
	return &h->places[i];
}

static __always_inline struct stream *new_stream(struct http2 *h, __u32 stream)
{
	struct stream_key key = {.id = h->id, .stream = stream};
	zero_key zero = 0;
	struct stream *blank = blank_stream.lookup((__u32 *)&zero);

	if (!blank)
		return NULL;
	__sync_fetch_and_add(&h->opened, 1);
	*place_of(h, stream) = stream;
	streams.insert(&key, blank); /* the other side may just have done so */
	return streams.lookup(&key);
}

#ifdef PLACES_EARLY
/*
 * A client's stream whose header block is about to be written has its place from now on; NULL: that may still change.
 * `several`: others begin with the same write.
 */
static __always_inline struct stream *place_early(struct connection *c, struct http2 *h, __u64 key, struct caller by,
						  __u32 number, int several)
{
	struct stream *st = stream_of(h, number);

	if (!st && number > h->last)
		st = new_stream(h, number);
	if (!st || st->request_start)
		return NULL;
	if (!st->placed) {
		begin_trace(&st->trace, bpf_ktime_get_ns());
		st->trace.flags |= TRACE_KEPT; /* a field that is added says nothing more */

		struct served this = {.key = h->id, .span = st->trace.span, .stream = number};

		know_pair(c, key);
		st->placed = place_call_of(c, h, key, by, st, &this, several) ? PLACED_SURELY : PLACED_PERHAPS;
	}
	return st->placed == PLACED_SURELY ? st : NULL;
}
#endif

static __always_inline void begin_stream(struct stream *st, const struct http2_side *s, struct work *w)
{
	st->request_start = s->began;
#ifdef PLACES_EARLY
	if (!st->placed)
#endif
		begin_trace(&st->trace, s->began);
	st->pid = w->pid;
	st->tid = w->tid;
	st->fd = w->fd;
	w->opened = st->trace;
	w->streams[w->begun & (BEGUN - 1)] = s->stream;
#ifdef PROPAGATE_HEADERS
	w->fields[w->begun & (BEGUN - 1)] = 0;
#endif
	w->begun++;
}

/*
 * What all parts of a connection have in common: its slot, which is of no other use to HTTP/2. The id of the connection
 * is in the slot's head, which is as that of a part.
 */
static __always_inline void fill_part(struct exchange *x, const struct connection *c, __u32 stream, __u16 flags)
{
	struct http2_part *part = part_of(x);

	__builtin_memcpy(x, &c->slot, PART_SIZE);
	x->flags = c->session ? EXCHANGE_TLS : 0;
	part->stream = stream;
	part->flags |= flags;
}

/* Takes a stream out of the map, into the part: of the two sides, and a reset, one only succeeds. Returns whether it has. */
static __always_inline int end_stream(struct exchange *x, struct http2 *h, __u32 stream)
{
	struct http2_part *part = part_of(x);
	struct stream_key key = {.id = h->id, .stream = stream};
	struct stream *st = streams.lookup(&key);
	__u32 *place = place_of(h, stream);

	if (!st)
		return 0;
	__builtin_memcpy(&x->request_start, &st->request_start, REQUEST_SIZE);
	x->fd = st->fd;
	x->status = st->status;
	x->error = st->error;
	part->request_frames = st->request_frames;
	part->response_frames = st->response_frames;
	if (st->messages)
		part->flags |= HTTP2_MESSAGES;
	if (x->response_start && x->response_start < x->request_start)
		x->request_start = x->response_start; /* it was answered before the write returned */
	http1_barrier();
	if (streams.delete(&key))
		return 0;
	__sync_fetch_and_add(&h->ended, 1);
	if (*place == stream)
		*place = 0;
	return x->pid != 0; /* else its request never came */
}

/* Sends the part at hand, whose fragment is in its place. Returns whether it is to be counted, since there was no room. */
static __always_inline int tell_part(struct connection *c, struct http2 *h, struct http2_side *s, struct work *w)
{
	struct exchange *x = told_of(w);
	struct http2_part *part = part_of(x);

	fill_part(x, c, w->part_stream, w->part);
	x->pid = w->pid;
	x->tid = w->tid;
	x->fd = w->fd;
	if (w->part & HTTP2_REQUEST && w->part & HTTP2_FIRST)
		x->trace = w->opened;
	if (w->part & HTTP2_ENDED && !end_stream(x, h, w->part_stream)) {
		part->flags &= ~HTTP2_ENDED;
		if (!(w->part & HTTP2_FIELDS))
			return 0;
	}
	http1_barrier();
	if (w->part & HTTP2_FIELDS) {
		part->size = w->part_size;
		part->number = s->number++;
	}
	return put_exchange(x) && part->flags & HTTP2_ENDED;
}

/*
 * One side writes what it has seen and then looks what the other has; of two that do, one at least sees the other's. An
 * addition of something is the barrier that every kernel's verifier knows.
 */
static __always_inline void barrier_of_sides(struct http2 *h)
{
	__sync_fetch_and_add(&h->meetings, 1);
}

/* The request's header block was told: from here on whoever sees the end of the response may tell it. */
static __always_inline void settle_request(struct http2 *h, struct http2_side *s, struct work *w)
{
	struct stream *st = stream_of(h, s->block);

	if (!st)
		return;
	if (s->ends) {
		st->request_end = w->time;
		st->request = SIDE_ENDED;
	} else if (st->request == SIDE_WAITS) {
		st->request = SIDE_BEGUN;
	}
	barrier_of_sides(h);
	if (st->response != SIDE_ENDED)
		return;
	if (s->ends || h->late)
		w->settled = s->block;
	else
		h->late = s->block;
}

/*
 * A write of the client was looked at to its end: what was answered before it returned is told now, for it may have held
 * its body. Returns whether there is any.
 */
static __always_inline int settle_late(struct http2 *h, struct work *w)
{
	if (w->incoming || !(h->entered || h->late))
		return 0;
	h->entered = 0;
	barrier_of_sides(h);
	w->settled = h->late;
	h->late = 0;
	return w->settled != 0;
}

/* A write of the client has failed. */
static __always_inline void undo_frames(const struct connection *c, __u64 key)
{
	struct http2 *h = c->http2 ? http2_connections.lookup(&key) : NULL;

	if (h)
		h->entered = 0;
}

/* Something of a response has come. */
static __always_inline void note_answer(const struct connection *c, struct work *w, __u32 stream)
{
	if (c->role == ROLE_CLIENT)
		w->answered = w->answered && w->answered != stream ? SEVERAL_STREAMS : stream;
}

/* Nothing more comes of a response. */
static __always_inline void end_response_of(struct http2 *h, struct stream *st, __u32 stream, struct work *w)
{
	st->response_end = w->time;
	st->response = SIDE_ENDED;
	if (st->request == SIDE_BEGUN && h->entered && !h->late)
		h->late = stream;
	barrier_of_sides(h);
	if (st->request != SIDE_WAITS && !(h->entered && h->late == stream)) {
		w->part |= HTTP2_ENDED;
		w->part_stream = stream;
	}
}

/* The server has sent all of its response. */
static __always_inline void settle_response(struct connection *c, struct http2 *h, __u32 stream, struct work *w)
{
	struct stream *st = stream_of(h, stream);

	note_answer(c, w, stream);

	if (st)
		end_response_of(h, st, stream, w);
	else if (h->old && stream & 1 && (!h->first || stream < h->first))
		count(COUNT_ORPHAN_RESPONSE);
}

/* A header block begins: of a request, which opens a stream, of a response, or trailers of either. */
static __always_inline void begin_block(struct connection *c, struct http2 *h, struct http2_side *s, struct work *w)
{
	__u32 stream = s->stream;
	struct stream *st = stream_of(h, stream);

	s->block = 0;
	if (s->part & HTTP2_PROMISE || !(stream & 1))
		return;
	if (is_request(c, w)) {
		if (!st && stream <= h->last)
			return; /* trailers of what is over */
		if (!st)
			st = new_stream(h, stream);
		if (!h->first)
			h->first = stream;
		if (stream > h->last)
			h->last = stream;
		if (st && !st->request_start)
			begin_stream(st, s, w);
	} else {
		if (!st && c->role == ROLE_CLIENT && stream > h->last && !(h->old && !h->last))
			st = new_stream(h, stream); /* the write of its request has not returned yet */
		note_answer(c, w, stream);
		if (st && !st->response_start)
			st->response_start = s->began;
		if (st && st->status < 200)
			st->status = status_of(part_of(told_of(w))->fragment, w->part_size);
	}
	if (st)
		s->block = stream;
	else if (is_request(c, w))
		count(COUNT_STREAM_LOST);
}

/* The block that was kept is told now. */
static __always_inline void tell_kept(struct work *w, __u32 part)
{
	*(__u64 *)part_of(told_of(w))->fragment = w->kept_block;
	w->part = HTTP2_FIELDS | HTTP2_FIRST | HTTP2_LAST | part;
	w->part_stream = w->kept;
	w->part_size = w->kept_size;
	w->kept = w->kept_size = 0;
}

/* All of the same stream's next block lies behind the one that was kept, so that both are as one. */
static __always_inline int goes_on(const struct http2_side *s, struct work *w)
{
	const __u8 *fragment = part_of(told_of(w))->fragment;

	/* one question after the other: of what is asked at once, new verifiers follow all combinations of answers */
	if (w->kept != s->stream || s->part & HTTP2_PROMISE || !(s->flags & HTTP2_END_HEADERS))
		return 0;
	http1_barrier();
	if (w->part_size - w->kept_size + s->padding != s->remaining || w->part_size > HTTP2_FRAGMENT)
		return 0;
	http1_barrier();
	return !begins_with_size(fragment[at_most(w->kept_size, KEPT_MAX)]);
}

/* A response's block is in place: is the end of its stream worth waiting for, which may be in the same call? */
static __always_inline void keep_block(struct work *w)
{
	__u64 word = load64(part_of(told_of(w))->fragment);

	if (w->part != (HTTP2_FIELDS | HTTP2_FIRST | HTTP2_LAST) || !w->part_stream || w->position >= w->size ||
	    !may_be_kept(word, w->part_size))
		return;
	w->kept = w->part_stream;
	w->kept_size = w->part_size;
	w->kept_block = word;
	w->part = w->part_stream = 0;
}

#ifdef PROPAGATE_HEADERS
/* The header block of the stream that began last, in this call, ends at the current position. */
static __always_inline void note_block_end(const struct http2_side *s, struct work *w)
{
	__u64 at = w->position - w->segment_at;
	__u32 i = (w->begun - 1) & (BEGUN - 1);

	if (w->begun && w->streams[i] == s->block && at >= BLOCK_FIELD)
		w->fields[i] = w->segment_begin + at - BLOCK_FIELD;
}
#endif

/* Bytes of a header block are in place; of which side they are may become known by them. */
static __always_inline void take_block(struct connection *c, struct http2 *h, struct http2_side *s, struct work *w)
{
	const __u8 *fragment = part_of(told_of(w))->fragment;
	int last = s->remaining == s->padding && s->flags & HTTP2_END_HEADERS;

	if (c->role == ROLE_UNKNOWN && s->part & HTTP2_FIRST) {
		int found = block_of(fragment, w->part_size);

		if (found != BLOCK_UNKNOWN) {
			c->role = (found == BLOCK_REQUEST) == (w->incoming != 0) ? ROLE_SERVER : ROLE_CLIENT;
			c->slot.role = c->role;
			s->unsure = 0;

			__u8 *target = target_of(w->pid);
			if (target && c->role == ROLE_CLIENT && !(*target & TARGET_CLIENT))
				*target |= TARGET_CLIENT;
		}
	}
	http1_barrier();
	if (c->role == ROLE_UNKNOWN) {
		s->part = 0; /* nor can what continues it be told */
		s->block = 0;
	}
	if (s->part & HTTP2_FIRST)
		begin_block(c, h, s, w);
	http1_barrier();
	if (s->part) {
		w->part = s->part | w->joined;
		w->part_stream = s->block;
		if (is_request(c, w))
			w->part |= HTTP2_REQUEST;
		if (last)
			w->part |= HTTP2_LAST;
		s->part &= ~HTTP2_FIRST;
	}
	if (last)
		s->open = 0;
#ifdef PROPAGATE_HEADERS
	if (last)
		note_block_end(s, w);
	http1_barrier();
#endif
	if (s->remaining == s->padding)
		s->phase = s->padding ? HTTP2_SKIP : HTTP2_HEADER;
	http1_barrier();
	if (last && s->ends && s->part && !is_request(c, w))
		settle_response(c, h, s->stream, w);
	else
		keep_block(w);
}

/* A frame's payload, or the part of it that matters here, is complete. */
static __always_inline void end_frame(struct connection *c, struct http2 *h, struct http2_side *s, struct work *w)
{
	s->phase = HTTP2_HEADER;
	if (s->type != HTTP2_DATA || !(s->flags & HTTP2_END_STREAM) || c->role == ROLE_UNKNOWN)
		return;
	if (!is_request(c, w)) {
		settle_response(c, h, s->stream, w);
		return;
	}

	struct stream *st = stream_of(h, s->stream);
	if (!st)
		return;
	st->request_end = w->time;
	st->request = SIDE_ENDED;
	barrier_of_sides(h);
	if (st->response == SIDE_ENDED)
		w->settled = s->stream;
}

/* Why a stream ends: one that GOAWAY has refused does for that, whatever its client does about it. */
static __always_inline __u16 reason_of(const struct http2 *h, __u32 stream, __u16 error)
{
	return h->refused && stream > h->refused_above ? h->refused : error;
}

static __always_inline void reset_stream(struct http2 *h, __u32 stream, __u32 code, struct work *w)
{
	struct stream *st = stream_of(h, stream);

	if (!st)
		return;
	if (st->response == SIDE_ENDED) {
		w->settled = stream; /* answered before all of it was sent, which is none the worse for it */
		return;
	}
	st->error = reason_of(h, stream, error_of(code));
	end_response_of(h, st, stream, w);
}

/* A server has read of a request's body: if it acts in order, it goes on with that. */
static __always_inline void note_body(const struct connection *c, struct work *w, __u32 stream)
{
	if (c->role != ROLE_SERVER || w->answered == stream)
		return;
	if (w->answered)
		w->answered = SEVERAL_STREAMS;
	else if (runtime_of(w->pid) & RUNTIME_IN_ORDER)
		w->answered = stream;
}

/* Part of a body. */
static __always_inline void begin_data(struct connection *c, struct http2 *h, struct http2_side *s, struct work *w)
{
	struct stream *st = c->role == ROLE_UNKNOWN ? NULL : stream_of(h, s->stream);

	if (!st)
		return;
	if (is_request(c, w)) {
		if (!st->request_frames && s->remaining >= s->wanted + MESSAGE_PREFIX)
			s->wanted += MESSAGE_PREFIX;
		st->request_body += s->remaining;
		st->request_frames++;
		note_body(c, w, s->stream);
	} else {
		st->response_body += s->remaining;
		st->response_frames++;
	}
}

/* The header of a frame is in s->carry. Returns whether it is one. */
static __always_inline int begin_frame(struct connection *c, struct http2 *h, struct http2_side *s, struct work *w)
{
	if (!valid_frame(s->carry, s->unsure))
		return 0;
	http1_barrier();
	/* RFC 9113, 6.10: a header block is not interrupted */
	if ((s->carry[3] == HTTP2_CONTINUATION) != s->open || (s->open && s->stream != frame_stream(s->carry)))
		return 0;
	if (c->role != ROLE_UNKNOWN)
		s->unsure = 0;
	s->stream = frame_stream(s->carry);
	s->remaining = frame_length(s->carry);
	s->type = s->carry[3];
	s->flags = s->carry[4];
	s->padding = 0;
	s->wanted = 0;
	http1_barrier();

	__u8 padded = (s->flags & HTTP2_PADDED) >> 3;

	switch (s->type) {
	case HTTP2_HEADERS:
		s->part = HTTP2_FIELDS | HTTP2_FIRST;
		s->open = 1;
		s->ends = s->flags & HTTP2_END_STREAM;
		s->wanted = padded + (s->flags & HTTP2_HAS_PRIORITY ? 5 : 0);
		break;
	case HTTP2_PUSH_PROMISE:
		s->part = HTTP2_FIELDS | HTTP2_FIRST | HTTP2_PROMISE;
		s->open = 1;
		s->ends = 0;
		s->wanted = padded + 4;
		break;
	case HTTP2_RST_STREAM:
		s->wanted = 4;
		break;
	case HTTP2_GOAWAY:
		s->wanted = 8;
		break;
	case HTTP2_DATA:
		s->wanted = padded;
		begin_data(c, h, s, w);
		break;
	}
	http1_barrier();
	if (s->wanted > s->remaining)
		return 0;
	s->remaining -= s->wanted;
	return 1;
}

/* The beginning of a body: padding, and whether it looks like a message. Returns whether it makes sense. */
static __always_inline int begin_body(struct connection *c, struct http2 *h, struct http2_side *s, struct work *w)
{
	const __u8 *prefix = s->carry + FRAME_HEADER;
	struct stream *st = stream_of(h, s->stream);

	if (s->flags & HTTP2_PADDED) {
		if (prefix[0] >= s->remaining + s->wanted)
			return 0;
		/* it counts as body until here; what lies behind it may already have been read */
		if (st && is_request(c, w))
			st->request_body -= prefix[0] + 1;
		else if (st)
			st->response_body -= prefix[0] + 1;
		prefix++;
	}
	if (st && s->wanted >= MESSAGE_PREFIX) {
		__u32 length = load_be32(prefix + 1);

		st->messages = prefix[0] <= 1 && length < MESSAGE_MAX &&
			       (!(s->flags & HTTP2_END_STREAM) || length <= s->remaining);
	}
	return 1;
}

#ifdef PROPAGATE_GO
/* What was added to a header block is passed over like padding, which such a frame has not. */
static __always_inline void pass_added(const struct connection *c, const struct http2 *h, struct http2_side *s, struct work *w)
{
	struct stream *st = is_request(c, w) && s->type == HTTP2_HEADERS ? stream_of(h, s->stream) : NULL;

	if (st && st->added && !st->request_start && s->flags & HTTP2_END_HEADERS && s->remaining > BLOCK_FIELD)
		s->padding = BLOCK_FIELD;
}
#endif

/* All that is wanted of a frame's payload lies behind its header. Returns whether it makes sense. */
static __always_inline int begin_payload(struct connection *c, struct http2 *h, struct http2_side *s, struct work *w)
{
	const __u8 *prefix = s->carry + FRAME_HEADER;

	s->phase = HTTP2_SKIP;
	switch (s->type) {
	case HTTP2_DATA:
		if (s->wanted && !begin_body(c, h, s, w))
			return 0;
		break;
	case HTTP2_RST_STREAM:
		if (c->role != ROLE_UNKNOWN)
			reset_stream(h, s->stream, load_be32(prefix), w);
		break;
	case HTTP2_GOAWAY:
		if (c->role != ROLE_UNKNOWN && !is_request(c, w)) {
			__u32 code = load_be32(prefix + 4);

			h->refused_above = load_be32(prefix) & 0x7fffffff;
			h->refused = error_of(code ? code : REFUSED_STREAM);
		}
		break;
	case HTTP2_HEADERS:
	case HTTP2_PUSH_PROMISE:
		if (s->flags & HTTP2_PADDED)
			s->padding = prefix[0];
#ifdef PROPAGATE_GO
		else
			pass_added(c, h, s, w);
#endif
	case HTTP2_CONTINUATION:
		if (s->part)
			s->phase = HTTP2_BLOCK;
		break;
	}
	http1_barrier();
	return s->padding <= s->remaining;
}

/* These are no frames, or no longer: what a side sends is looked at again where a call begins with one. */
static __always_inline void lose_frames(struct connection *c, struct http2_side *s, struct work *w)
{
	__u64 key = w->sock;

	skip_call(w);
#ifdef PROPAGATE
	announce_no_more(w);
#endif
	if (s->phase == HTTP2_PREFACE) {
		c->http2 = 0;
		c->ignored = 1;
	} else if (c->role == ROLE_UNKNOWN) {
		c->http2 = 0; /* it was a guess */
		c->slot.protocol = PROTOCOL_HTTP1;
		if (++c->misses > MAX_MISSES)
			c->ignored = 1;
		http2_connections.delete(&key);
	} else {
		if (!s->unsure) {
			count(COUNT_LOST_SYNC);
			s->number++; /* what the table has become is not known */
		}
		s->phase = HTTP2_SEARCH;
		s->carried = 0;
		s->open = 0;
	}
}

enum turn { TURN_DONE, TURN_MORE, TURN_LOST };

/* Takes the header of a frame, and what is wanted of its payload. */
static __always_inline enum turn take_header(struct connection *c, struct http2 *h, struct http2_side *s, struct work *w,
					     __u64 base, __u64 available)
{
	__u64 carried = s->carried, n = FRAME_HEADER + FRAME_PREFIX;

	if (carried >= n)
		return TURN_LOST;
	n -= carried;
	if (n > available)
		n = available;
	if (bpf_probe_read_user(s->carry + at_most(carried, FRAME_HEADER + FRAME_PREFIX),
				at_most(n, FRAME_HEADER + FRAME_PREFIX), (void *)base))
		return TURN_LOST;
	if (!carried && !s->open)
		s->began = w->time;
	w->part_size = n; /* in memory, for what follows need not know */
	if (carried + n < FRAME_HEADER) {
		s->carried = carried + n;
		w->position += n;
		return TURN_DONE;
	}
	http1_barrier();
	if (s->phase == HTTP2_PREFACE) {
		if (load64(s->carry) != PREFACE_1)
			return TURN_LOST;
		s->phase = HTTP2_SKIP;
		s->type = HTTP2_SETTINGS;
		s->wanted = 0;
		s->remaining = PREFACE_SIZE - FRAME_HEADER;
	} else if (s->phase == HTTP2_HEADER) {
		if (!begin_frame(c, h, s, w))
			return TURN_LOST;
		s->phase = HTTP2_PREFIX;
	}
	http1_barrier();
	if (s->carried + w->part_size < FRAME_HEADER + s->wanted) {
		s->carried += w->part_size;
		w->position += w->part_size;
		return TURN_DONE;
	}
	w->position += FRAME_HEADER + s->wanted - s->carried;
	s->carried = 0;
	if (s->phase == HTTP2_PREFIX && !begin_payload(c, h, s, w))
		return TURN_LOST;
	return TURN_MORE;
}

/* A body whose first bytes were to be looked at comes out of a file: does without. */
static __always_inline int pass_prefix(struct http2_side *s)
{
	if (s->phase != HTTP2_PREFIX || s->type != HTTP2_DATA || s->flags & HTTP2_PADDED)
		return 0;
	s->remaining += FRAME_HEADER + s->wanted - s->carried;
	s->carried = 0;
	s->phase = HTTP2_SKIP;
	return 1;
}

/* Looks at the next bytes that belong together: a frame, or what is in one buffer of it. */
static __always_inline enum turn look_at_frame(struct connection *c, struct http2 *h, struct http2_side *s, struct work *w)
{
	if (s->phase == HTTP2_SEARCH) {
		skip_call(w);
		return TURN_DONE;
	}
	if (s->phase != HTTP2_SKIP) {
		if (w->opaque && !pass_prefix(s))
			return TURN_LOST;
		if (!w->opaque && !find_segment(w))
			return TURN_DONE;
	}
	http1_barrier();

	if (s->phase != HTTP2_SKIP && s->phase != HTTP2_BLOCK) {
		__u64 left = w->size - w->position, available = w->segment_end - w->position;

		w->turn = take_header(c, h, s, w, w->segment_begin + (w->position - w->segment_at),
				      available < left ? available : left);
		http1_barrier();
		if (w->turn != TURN_MORE)
			return w->turn;
	}
	http1_barrier();

	__u64 left = w->size - w->position, n = s->remaining;

	if (s->phase == HTTP2_SKIP) {
		if (n > left)
			n = left;
		w->position += n;
		s->remaining -= n;
		if (!s->remaining)
			end_frame(c, h, s, w);
		return TURN_DONE;
	}

	struct http2_part *part = part_of(told_of(w));
	__u64 available = w->segment_end - w->position;

	n -= s->padding;
	if (n > available)
		n = available;
	if (n > left)
		n = left;
	if (n > HTTP2_FRAGMENT)
		n = HTTP2_FRAGMENT;
	if (!n && s->remaining != s->padding)
		return TURN_DONE; /* it goes on in the next buffer */
	*(__u64 *)part->fragment = w->kept_block;
	if (bpf_probe_read_user(part->fragment + at_most(w->kept_size, KEPT_MAX), at_most(n, HTTP2_FRAGMENT),
				(void *)(w->segment_begin + (w->position - w->segment_at))))
		return TURN_LOST;
	w->joined = w->kept ? HTTP2_JOINED : 0;
	w->part_size = n + w->kept_size;
	http1_barrier();
	if (w->kept && !goes_on(s, w)) {
		tell_kept(w, 0);
		return TURN_DONE;
	}
	w->kept = w->kept_size = 0;
	http1_barrier();
	w->position += n;
	s->remaining -= n;
	http1_barrier();
	if (n || s->flags & HTTP2_END_HEADERS)
		take_block(c, h, s, w);
	else
		s->phase = s->padding ? HTTP2_SKIP : HTTP2_HEADER;
	return TURN_DONE;
}

enum { GO_ON, STOP, ONLY_COUNT };

/* One turn, and what it has to tell. */
static __always_inline int take_turn(struct connection *c, struct http2 *h, struct http2_side *s, struct work *w)
{
	w->part = 0;
	w->part_stream = 0;
	if (w->settled) {
		w->part = HTTP2_ENDED;
		w->part_stream = w->settled;
		w->settled = 0;
	} else if (w->position < w->size || use_next_message(w)) {
		w->turn = look_at_frame(c, h, s, w);
		http1_barrier();
		if (w->turn == TURN_LOST) {
			lose_frames(c, s, w);
			return STOP;
		}
	} else if (w->kept) {
		w->part_stream = w->kept;
	} else {
		return STOP;
	}
	http1_barrier();
	if (w->kept && w->kept == w->part_stream)
		tell_kept(w, w->part);
	http1_barrier();
	if (!w->part)
		return GO_ON;
	w->turn = tell_part(c, h, s, w);
	http1_barrier();
	if (w->part & HTTP2_REQUEST && w->part & HTTP2_LAST && s->block)
		settle_request(h, s, w);
	return w->turn ? ONLY_COUNT : GO_ON;
}

#define NOTED_READS 8 /* of a connection: what nobody asks for by then nobody will */

/* Keeps what is read on an older connection, for who may be about to tell what its tables hold. */
static __always_inline void note_frames(struct connection *c, struct http2 *h, struct work *w)
{
	const struct http2_side *s = &h->sides[1];
	__u32 tid = w->tid;
	struct last_read *before, new = {.key = w->sock, .number = s->number, .open = s->open || s->phase != HTTP2_HEADER};
	__u64 n = w->size < READ_BEGINNING ? w->size : READ_BEGINNING;

	if (!h->old || !w->incoming || h->noted >= NOTED_READS || w->opaque || !find_segment(w))
		return;
	h->noted++;
	before = last_reads.lookup(&tid);
	if (before && before->key != w->sock)
		new.key = 0;
	new.buffer = w->segment_begin;
	if (bpf_probe_read_user(new.beginning, at_most(n, READ_BEGINNING), (void *)new.buffer))
		return;
	last_reads.update(&tid, &new);
}

struct frames_at_hand {
	struct connection *c;
	struct http2 *h;
	struct http2_side *s;
	struct work *w;
};
APART(turn_of_frames, struct frames_at_hand)
{
	return take_turn(at->c, at->h, at->s, at->w);
}

/* Looks at all frames of the call, as far as one run can; then again, by a tail call. */
static __always_inline void look_at_frames(void *ctx, struct connection *c, struct http2 *h, struct work *w)
{
	struct http2_side *s = &h->sides[w->incoming & 1];
	struct frames_at_hand at = {c, h, s, w};
	int next;

	if (!w->steps && s->phase == HTTP2_SEARCH) {
		s->phase = HTTP2_HEADER;
		s->unsure = 1;
	}
	if (h->entered && !w->incoming)
		w->time = h->entered; /* a request begins before it is sent */
	http1_barrier();
	if (!w->steps)
		note_frames(c, h, w);
	http1_barrier();
	TURNS(turns, w->turns, FRAMES_A_RUN);
	do {
		next = TURN(turn_of_frames, &at);
		if ((next == STOP || (next == GO_ON && w->position >= w->size && !w->messages_left && !w->settled && !w->kept)) &&
		    !settle_late(h, w)) {
			w->next = STEPS;
			if (w->begun || w->answered)
				steps.call(ctx, STEP_PLACE_STREAMS);
			return;
		}
	} while (ANOTHER(turns) && next == GO_ON);
	w->next = next == ONLY_COUNT ? STEP_AGGREGATE : STEP_FRAMES;
	if (++w->steps >= MAX_STEPS) {
		count(COUNT_STEPS_EXHAUSTED);
		s->number++;
		s->phase = HTTP2_SEARCH;
		return;
	}
	steps.call(ctx, w->begun > BEGUN / 2 && w->steps < PLACING_STEPS ? STEP_PLACE_STREAMS : w->next);
}

/* The program that looks at a connection's bytes first. */
static __always_inline __u32 first_step(const struct connection *c)
{
	return c->http2 ? STEP_FRAMES : STEP_LOOK;
}

/* A client's write begins. Its frames are looked at when it is known how many were written; they began now. */
static __always_inline void enter_frames(struct connection *c, struct work *w)
{
	struct http2 *h = http2_of(c, w->sock);

	if (!h)
		return;
	h->entered = w->time;
#ifdef PROPAGATE_HEADERS
	announce_frames(w);
#endif
}

/* A stream that has no complete answer at the end of its connection: when and why it ends. */
static __always_inline void leave_stream(const struct connection *c, const struct http2 *h, __u32 stream, __u64 time)
{
	struct stream *st = stream_of(h, stream);

	if (!st)
		return;
	if (st->request == SIDE_WAITS)
		st->pid = 0; /* its head is not complete: it was no request yet */
	if (st->response == SIDE_ENDED)
		return;
	st->response_end = time;
	st->error = st->response_start ? ERROR_TRUNCATED : ERROR_NO_RESPONSE;
	if (c->error)
		st->error = c->error;
	st->error = reason_of(h, stream, st->error);
}

struct ends_at_hand {
	struct connection *c;
	struct http2 *h;
	struct exchange *x;
	__u64 time, i;
};
APART(turn_of_ends, struct ends_at_hand)
{
	struct exchange *x = at->x;
	struct http2 *h = at->h;
	__u32 *place = place_numbered(h, at->i);

	leave_stream(at->c, h, *place, at->time);
	http1_barrier();
	fill_part(x, at->c, *place, HTTP2_ENDED);
	x->sequence = end_stream(x, h, *place); /* in memory, for what follows looks alike then */
	*place = 0;
	http1_barrier();
	if (!x->sequence)
		return 0;
	x->sequence = 0;
	h->unsent += put_exchange(x);
	return 0;
}

/* What the end of a connection leaves without an answer. `x`: memory to tell it with. */
static __always_inline void end_streams(struct connection *c, __u64 key, __u64 time, struct exchange *x, __u32 *turns)
{
	struct http2 *h = http2_connections.lookup(&key);

	if (!h)
		return;

	struct ends_at_hand at = {c, h, x, time};
	LOOP_OVER (i, *turns, HTTP2_PLACES) {
		http1_barrier();
		if (!*place_numbered(h, i))
			continue;
		at.i = i;
		TURN(turn_of_ends, &at);
	}
	http1_barrier();
	if (h->unsent)
		aggregate_exchanges(x, h->unsent); /* as if all were like the last one */
	h->unsent = 0;
	if (h->opened != h->ended)
		count_several(COUNT_STREAM_LOST, h->opened - h->ended);
	h->ended = h->opened;
}

enum { HTTP2_NOT, HTTP2_CLIENT_FIRST, HTTP2_SERVER_FIRST, HTTP2_GUESSED };

/* Does HTTP/2 begin with the bytes at hand, which are no HTTP/1? */
static __always_inline int begins_http2(const struct connection *c, const struct work *w)
{
	const struct framer *f = &c->framers[w->side & 1];
	__u64 word = load64(w->window);

	if (f->phase != HTTP1_START_LINE || w->opaque)
		return HTTP2_NOT;
	if (c->role == ROLE_UNKNOWN)
		return w->scan.size >= FRAME_HEADER && valid_frame(w->window, 1) ? HTTP2_GUESSED : HTTP2_NOT;
	if (w->side == SIDE_REQUEST)
		return w->scan.size >= 16 && word == PREFACE_1 && load64(w->window + 8) == PREFACE_2 ? HTTP2_CLIENT_FIRST :
													HTTP2_NOT;
	if ((c->switched || (c->fresh && !c->responses)) && c->requests - c->responses <= 1 &&
	    begins_settings(word, w->scan.size))
		return HTTP2_SERVER_FIRST;
	return HTTP2_NOT;
}

/* The request that asked for an upgrade is stream 1 (RFC 7540, 3.2); what is kept of it is told in place of a block. */
static __always_inline void note_upgraded(struct connection *c, struct http2 *h, struct work *w)
{
	struct http2_part *part = part_of(told_of(w));
	struct stream *st = new_stream(h, 1);

	if (!st)
		return;
	h->first = 1;
	h->last = 1;
	st->request_start = c->slot.request_start;
	st->request_end = c->slot.request_end;
	st->request_body = c->slot.request_body;
	__builtin_memcpy(&st->trace, &c->slot.trace, sizeof(st->trace));
	st->name = c->slot.name;
	st->pid = c->slot.pid;
	st->tid = c->slot.tid;
	st->fd = c->slot.fd;
	st->request = SIDE_ENDED;
	bpf_probe_read_kernel(part->fragment, HTTP2_FRAGMENT, c->slot.head);
	w->part = HTTP2_FIELDS | HTTP2_REQUEST | HTTP2_FIRST | HTTP2_LAST | HTTP2_UPGRADED;
	w->part_stream = 1;
	w->part_size = c->slot.head_size < HTTP2_FRAGMENT ? c->slot.head_size : HTTP2_FRAGMENT;
}

/* From here on the connection's bytes are frames. Returns whether to look at the rest of the call. */
static __always_inline int become_http2(struct connection *c, struct work *w, int how)
{
	struct framer *request = &c->framers[SIDE_REQUEST];
	__u64 carried = request->carried;
	struct http2 *h = new_http2(w->sock, how == HTTP2_GUESSED);

	if (!h) {
		c->ignored = 1;
		return 0;
	}
	c->http2 = 1;
	c->guessed = 0;
	c->entered = 0;
	if (how != HTTP2_GUESSED) {
		struct http2_side *s = side_of_client(c, h);

		/* what HTTP/1 has kept of the preface was the beginning of it */
		s->phase = HTTP2_PREFACE;
		if (carried || how == HTTP2_CLIENT_FIRST) {
			s->phase = HTTP2_SKIP;
			s->type = HTTP2_SETTINGS;
			s->remaining = carried < PREFACE_SIZE ? PREFACE_SIZE - carried : 0;
		}
		if (how == HTTP2_SERVER_FIRST)
			h->sides[(c->role == ROLE_CLIENT) & 1].unsure = 1;
	}
	if (request->flags & FRAMER_BEGUN)
		forget_request(c, w->sock);
	http1_reset(request);
	http1_reset(&c->framers[SIDE_RESPONSE]);
	if (c->switched)
		note_upgraded(c, h, w);
	be_template(c, h);
	if (c->switched && h->last)
		tell_part(c, h, side_of_client(c, h), w);
	if (!w->entering)
		return 1;
	h->entered = w->time;
#ifdef PROPAGATE_HEADERS
	announce_frames(w);
#endif
	return 0;
}

#endif
