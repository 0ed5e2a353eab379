/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The bytes that one system call moved: walks its buffers, in windows, through the framer of their direction.
 *
 * A run looks at a bounded number of windows, then calls itself (tail call) until the bytes are done or the kernel's
 * limit of such calls is reached, which is counted.
 */
#ifndef AUTOINSTR_STREAM_H
#define AUTOINSTR_STREAM_H

/* Windows that one run looks at: what the verifier of Linux 5.10 can still follow. */
#ifndef WINDOWS_A_RUN
#define WINDOWS_A_RUN 4
#endif
/* Chunks that one run may skip, where each is as simple as chunks mostly are. */
#define CHUNKS_A_RUN 176
/* Streams of HTTP/2 that one run gives their place. */
#if defined(PROPAGATE_HEADERS) && !defined(MAY_GOTO)
#define PLACES_A_RUN 4
#else
#define PLACES_A_RUN 8
#endif
/* Of a call that begins more streams than that many runs do, the rest have no place: frames come first. */
#define PLACING_STEPS 10
/* Runs for one call. */
#define MAX_STEPS 31
/* Buffers of a vector that one window may skip. */
#define SEGMENTS_A_WINDOW 4
/* A chunk-size line is short: more is not read for it. */
#define CHUNK_LINE 32
/* Calls on a connection older than the agent that may be something else than HTTP/1, before it is given up. */
#define MAX_MISSES 4096

#define METHOD_HEAD 0x44414548    /* "HEAD" */
#define LAST_CHUNK 0x0a0d0a0d300a0dULL /* CRLF 0 CRLF CRLF */
#define PROXY_V1 0x2059584f5250ULL     /* "PROXY " */
#define PROXY_V2 0x510a0d000a0d0a0dULL /* CR LF CR LF NUL CR LF Q */
#define METHOD_CONNECT 0x4e4e4f43 /* "CONN" */

/* What a system call does with bytes. */
enum transfer {
	TRANSFER_NONE,
	TRANSFER_BUFFER,   /* (fd, buffer, size) */
	TRANSFER_VECTOR,   /* (fd, iovec, entries) */
	TRANSFER_MESSAGE,  /* (fd, msghdr) */
	TRANSFER_MESSAGES, /* (fd, mmsghdr, entries) */
	TRANSFER_OPAQUE,   /* from or to a file or pipe */
};

struct user_vector {
	__u64 base;
	__u64 size;
};

static __always_inline void use_buffer(struct work *w, __u64 base)
{
	w->segment_begin = base;
	w->segment_at = 0;
	w->segment_end = w->size;
	w->vector_left = 0;
}

/* All that a call of a library has moved, in one buffer. */
static __always_inline void use_plaintext(struct work *w, __u64 base, __u64 size)
{
	w->position = 0;
	w->opaque = 0;
	w->messages_left = 0;
	w->size = size;
	use_buffer(w, base);
}

static __always_inline void use_vector(struct work *w, __u64 vector, __u64 entries)
{
	w->segment_at = w->position;
	w->segment_end = w->position;
	w->vector = vector;
	w->vector_left = entries;
}

/* struct msghdr: name, namelen, iov, iovlen */
static __always_inline int use_message(struct work *w, __u64 message)
{
	struct user_vector v;

	if (bpf_probe_read_user(&v, sizeof(v), (void *)(message + 16)))
		return 0;
	use_vector(w, v.base, v.size);
	return 1;
}

/* struct mmsghdr: a msghdr of 56 bytes and the number of bytes that it moved */
static __always_inline int use_next_message(struct work *w)
{
	__u32 moved = 0;

	if (!w->messages_left)
		return 0;
	if (bpf_probe_read_user(&moved, sizeof(moved), (void *)(w->message + 56)) || !use_message(w, w->message))
		return 0;
	w->size = w->position + moved;
	w->message += 64;
	w->messages_left--;
	return 1;
}

/* Makes the buffer that holds the current position the one at hand; returns whether it is. */
static __always_inline int find_segment(struct work *w)
{
	for (int i = 0; i < SEGMENTS_A_WINDOW; i++) {
		struct user_vector v;

		http1_barrier();
		if (w->position < w->segment_end)
			return 1;
		if (!w->vector_left)
			return 0;
		if (bpf_probe_read_user(&v, sizeof(v), (void *)w->vector)) {
			w->vector_left = 0;
			return 0;
		}
		w->vector += sizeof(v);
		w->vector_left--;
		w->segment_begin = v.base;
		w->segment_at = w->segment_end;
		w->segment_end += v.size;
	}
	return w->position < w->segment_end;
}

/* What became of a look at the next bytes. Acted on in one place, since all of this is inlined. */
enum outcome {
	OUTCOME_MORE,  /* look again */
	OUTCOME_DONE,  /* nothing more to look at in this call */
	OUTCOME_ENDED, /* a message is complete */
	OUTCOME_LOST,  /* what is there is no HTTP/1, or no longer */
	OUTCOME_LINES, /* lines are in the window, and are to be scanned */
};

/* The rest of this call is not to be looked at. */
static __always_inline void skip_call(struct work *w)
{
	w->position = w->size;
}

/* What was taken for the start of a message on a connection older than the agent was something else. */
static __always_inline void forget_guess(struct connection *c, struct work *w)
{
	http1_reset(&c->framers[SIDE_REQUEST]);
	http1_reset(&c->framers[SIDE_RESPONSE]);
	c->guessed = 0;
	c->role = ROLE_UNKNOWN;
	c->requests = c->responses;
	c->slot_used = 0;
	c->piped = PIPED_NO;
	c->answer = ANSWER_NONE;
	if (c->guessed_by == w->incoming)
		skip_call(w);
}

/* May this be the start of a TLS record (RFC 8446, 5.1)? */
static __always_inline int is_tls_record(__u64 word)
{
	return (__u8)(word - 0x14) <= 3 && (word >> 8 & 0xff) == 3;
}

/*
 * Chunks of a response come out of a file or pipe: where the last one ends is not seen. By the next request it has, for
 * nobody pipelines behind such. Returns whether it was that.
 */
static __always_inline int pass_unseen(struct connection *c, struct work *w, struct framer *f)
{
	struct framer *response = &c->framers[SIDE_RESPONSE];

	if (w->side == SIDE_REQUEST) {
		if (f->phase != HTTP1_START_LINE || !(response->flags & FRAMER_UNSEEN))
			return 0;
		end_response(c, response->remaining);
		return 1;
	}
	if (!w->opaque || (f->phase != HTTP1_CHUNK_SIZE && f->phase != HTTP1_TRAILERS))
		return 0;
	f->phase = HTTP1_CHUNKS_LOST;
	f->flags |= FRAMER_ABOUT | FRAMER_UNSEEN;
	f->body += w->size - w->position;
	f->remaining = w->time;
	f->carried = 0;
	skip_call(w);
	return 1;
}

/* The bytes at hand are no HTTP/1 where a message has to start, or no longer. */
static __always_inline void lose_track(struct connection *c, struct work *w, struct framer *f)
{
	if (pass_unseen(c, w, f))
		return;
	if (c->guessed && f->phase == HTTP1_START_LINE) {
		forget_guess(c, w);
		return;
	}
#ifdef PROPAGATE
	announce_no_more(w);
#endif
	if (c->switched)
		c->ignored = 1;
	if (!f->carried && is_tls_record(load64(w->window)))
		c->secret = 1;
	skip_call(w);
	if (c->role == ROLE_UNKNOWN || c->switched) {
		if (++c->misses > MAX_MISSES)
			c->ignored = 1;
		return;
	}
	if (w->side == SIDE_REQUEST) {
		int at_start = f->phase == HTTP1_START_LINE;
		__u8 first = f->carried ? f->carry[0] : w->window[0];

		if (f->flags & FRAMER_BEGUN)
			forget_request(c, w->sock);
		http1_reset(f);
		if (!at_start) {
			/* further requests could be taken for the answers' of others: a wrong pair is worse than none */
			count(COUNT_LOST_SYNC);
			c->ignored = 1;
		} else if (c->fresh && !c->requests) {
			if ((first | 0x20) >= 'a' && (first | 0x20) <= 'z')
				c->junk = 1;
			else
				c->ignored = 1;
		}
	} else {
		if (c->requests != c->responses) {
			if (c->fresh && !c->responses && f->phase == HTTP1_START_LINE && !w->opaque) {
				c->ignored = 1; /* some other protocol */
			} else {
				count(COUNT_LOST_SYNC);
				if (c->requests - c->responses > 1)
					c->ignored = 1;
				c->responses = c->requests;
				c->slot_used = 0;
			}
		} else if (c->fresh && !c->responses) {
			c->ignored = 1;
		}
		c->answer = ANSWER_NONE;
		http1_reset(f);
	}
	if (!c->fresh && !c->responses && ++c->misses > MAX_MISSES)
		c->ignored = 1;
}

/* Appends a buffer to the last eight bytes of a stream, the newest of which is in the highest byte. */
static __always_inline __u64 shift_in(__u64 tail, __u64 base, __u64 size)
{
	__u64 bytes = 0;

	if (!size)
		return tail;
	if (size >= 8) {
		bpf_probe_read_user(&bytes, 8, (void *)(base + size - 8));
		return bytes;
	}
	bpf_probe_read_user(&bytes, at_most(size, sizeof(bytes)), (void *)base);
	return tail >> (8 * size) | bytes << (64 - 8 * size);
}

/*
 * Does the stream end, here, with what a chunked body without trailers ends with, CRLF 0 CRLF CRLF? Its last bytes are
 * kept in f->remaining. Of many buffers the last few will do.
 */
static __always_inline int ends_with_last_chunk(struct framer *f, struct work *w)
{
	__u64 tail = f->flags & FRAMER_UNSEEN ? 0 : f->remaining;

	f->remaining = w->time;
	if (w->opaque) {
		f->flags |= FRAMER_UNSEEN;
		return 0;
	}
	if (!w->vector_left)
		tail = shift_in(tail, w->segment_begin, w->size - w->segment_at);
	for (int k = 3; k > 0; k--) {
		struct user_vector last;

		if (w->vector_left < k ||
		    bpf_probe_read_user(&last, sizeof(last), (void *)(w->vector + 16 * (w->vector_left - k))))
			continue;
		tail = shift_in(tail, last.base, last.size);
	}
	if (!(f->flags & FRAMER_UNSEEN))
		f->remaining = tail;
	return tail >> 8 == LAST_CHUNK;
}

/* Takes bytes that belong to a body. */
static __always_inline enum outcome take_body(struct work *w, struct framer *f)
{
	__u64 n = w->size - w->position;
	__u8 phase = f->phase;

	if (phase == HTTP1_BODY || phase == HTTP1_CHUNK_DATA) {
		if (n > f->remaining)
			n = f->remaining;
		f->remaining -= n;
	}
	if (phase != HTTP1_CHUNK_DATA)
		f->body += n;
	w->position += n;
	if (phase == HTTP1_BODY && !f->remaining)
		return OUTCOME_ENDED;
	if (phase == HTTP1_CHUNK_DATA && !f->remaining)
		f->phase = HTTP1_CHUNK_SIZE;
	if (phase == HTTP1_CHUNKS_LOST && w->position == w->size && ends_with_last_chunk(f, w))
		return OUTCOME_ENDED;
	return OUTCOME_MORE;
}

/*
 * Chunks, one after another, as long as each has its size line in one buffer and without extensions: many small ones in
 * one call would take more runs than there are. Stops before whatever is not that simple; returns whether it did not.
 */
static __always_inline int skip_chunks(struct connection *c, struct work *w)
{
	LOOP (w->turns, CHUNKS_A_RUN) {
		struct framer *f = &c->framers[w->side & 1];
		__u64 left = w->size - w->position, line = 0, size = 0, digits = 0;

		http1_barrier();
		if (f->phase == HTTP1_CHUNK_DATA) {
			__u64 n = f->remaining < left ? f->remaining : left;

			w->position += n;
			f->remaining -= n;
			left -= n;
			if (f->remaining)
				return 0;
			f->phase = HTTP1_CHUNK_SIZE;
		}
		if (f->phase != HTTP1_CHUNK_SIZE || f->carried || !left || w->opaque || !find_segment(w))
			return 0;

		__u64 n = w->segment_end - w->position, whole = left < sizeof(line) ? left : sizeof(line);
		if (n > whole)
			n = whole;
		if (bpf_probe_read_user(&line, at_most(n, sizeof(line)),
					(void *)(w->segment_begin + (w->position - w->segment_at))))
			return 0;
		if (n < whole && w->vector_left) {
			/* the end of the line may be a buffer of its own */
			struct user_vector next;
			__u64 more = 0, m = whole - n;

			if (bpf_probe_read_user(&next, sizeof(next), (void *)w->vector))
				return 0;
			if (m > next.size)
				m = next.size;
			if (bpf_probe_read_user(&more, at_most(m, sizeof(more)), (void *)next.base))
				return 0;
			line |= more << (8 * n);
			n += m;
		}

		digits = count_hexadecimal(line);
		size = hexadecimal(line, digits);
		if (!size || digits > 6 || digits + 2 > n || (line >> 8 * digits & 0xffff) != 0x0a0d)
			return 0;
		w->position += digits + 2;
		f->body += size;
		f->remaining = size + 2;
		f->phase = HTTP1_CHUNK_DATA;
	}
	return 1;
}

/* Keeps what of a head user space needs: its beginning, and a traceparent anywhere. */
static __always_inline void keep_head(struct exchange *x, struct framer *f, struct work *w, __u64 size)
{
	__u64 at = f->head;

	if (!at) {
		/* all that there is room for: cheaper than to call a helper for what there is */
		__builtin_memcpy(x->head, w->window, HEAD_SIZE);
	} else if (at < HEAD_SIZE) {
		__u64 n = HEAD_SIZE - at;

		if (n > size)
			n = size;
		if (n > HEAD_SIZE)
			n = HEAD_SIZE;
		bpf_probe_read_kernel(x->head + at_most(at, HEAD_SIZE), at_most(n, HEAD_SIZE), w->window);
	}
}

static __always_inline void keep_fields(struct exchange *x, struct framer *f, struct work *w)
{
	__u64 end = f->head + w->scan.line, value = w->scan.traceparent_at;

	x->head_size = end > HEAD_SIZE ? HEAD_SIZE : end;
	if (end > HEAD_SIZE)
		x->flags |= EXCHANGE_HEAD_CUT;
	if (x->traceparent == TRACEPARENT_SLOT && (x->flags & EXCHANGE_HEAD_CUT))
		x->head_size = TRACEPARENT_SLOT;
	if (!value || value >= WINDOW)
		return;
	if (byte_at(w->window, value) == ' ')
		value++;
	if (value >= WINDOW)
		return;
	if (byte_at(w->window, value) == ' ')
		value++;
	if (value >= WINDOW - TRACEPARENT_SIZE)
		return;
	if (f->head + value + TRACEPARENT_SIZE <= HEAD_SIZE) {
		x->traceparent = f->head + value;
		return;
	}
	bpf_probe_read_kernel(x->head + TRACEPARENT_SLOT, TRACEPARENT_SIZE, w->window + within(value));
	x->traceparent = TRACEPARENT_SLOT;
	x->head_size = TRACEPARENT_SLOT;
	x->flags |= EXCHANGE_HEAD_CUT;
}

/* An incomplete line at the end of the window: keeps its start, or looks at it again with more behind it. */
static __always_inline enum outcome carry_line(struct work *w, struct framer *f, __u64 size)
{
	__u64 line = w->scan.line, carried = f->carried, left = size - line;

	if (line > WINDOW || left > WINDOW)
		return OUTCOME_DONE;
	if (left <= CARRY && w->scan.seen) {
		bpf_probe_read_kernel(f->carry, at_most(left, CARRY), w->window + within(line));
		f->carried = left;
		f->head += line;
		w->position += size - carried;
		return OUTCOME_MORE;
	}
	f->carried = 0;
	if (line) {
		f->head += line;
		w->position += line - carried;
		return OUTCOME_MORE;
	}
	if (f->phase == HTTP1_CHUNK_SIZE)
		return OUTCOME_LOST;
#ifdef PROPAGATE_HEADERS
	/* the name of a field that is too long to be looked at whole */
	if ((word_at(w->window, 0) | LOWER) == WORD_TRACEPAR)
		announce_no_field(w);
#endif
	f->flags |= FRAMER_LONG_LINE;
	w->position += size - carried;
	f->head += size;
	if (f->phase == HTTP1_START_LINE) {
		__u64 tail = size - CARRY_TAIL;

		if (tail > WINDOW - CARRY_TAIL)
			return OUTCOME_DONE;
		bpf_probe_read_kernel(f->carry, CARRY_TAIL, w->window + within(tail));
		f->carried = CARRY_TAIL;
		f->head -= CARRY_TAIL;
	}
	return OUTCOME_MORE;
}

/* After the head of a response. */
static __always_inline enum outcome finish_response_head(struct connection *c, struct work *w, struct framer *f)
{
	__u16 status = f->status;
	__u32 method = 0;

	if (c->answer == ANSWER_SLOT && c->slot.head_size >= 4)
		__builtin_memcpy(&method, c->slot.head, 4);
	if (status < 200 && status != 101) {
		http1_reset(f); /* interim: the final response follows */
		return OUTCOME_MORE;
	}
	if (status == 101) {
		/* RFC 9110, 15.2.2: another protocol from here on, perhaps HTTP/2 */
		c->switched = 1;
		return OUTCOME_ENDED;
	}
	if (method == METHOD_CONNECT && status < 300) {
		/* a tunnel, in which a new conversation begins */
		http1_reset(&c->framers[SIDE_REQUEST]);
		return OUTCOME_ENDED;
	}
	if (http1_after_head(f, 1, status == 204 || status == 304 || method == METHOD_HEAD))
		return OUTCOME_ENDED;
	return OUTCOME_MORE;
}

/*
 * Bytes to skip of a PROXY protocol header, which a load balancer puts before the first request: version 1 is a line,
 * skipped a word at a time, version 2 is binary. 0: there is none.
 */
static __always_inline __u64 proxy_header(struct framer *f, __u64 word, const __u8 *window, __u64 size)
{
	if (f->flags & FRAMER_PROLOGUE || (word & 0xffffffffffffULL) == PROXY_V1) {
		__u64 feeds = line_feeds(word), n = first_match(feeds) + 1;

		if (feeds && n <= size) {
			f->flags = 0;
			return n;
		}
		f->flags = FRAMER_PROLOGUE;
		return size < 8 ? size : 8;
	}
	return word == PROXY_V2 && size >= 16 ? 16 + ((__u64)window[14] << 8 | window[15]) : 0;
}

/* Who is who on a connection older than the agent: by what is sent first. */
static __always_inline int find_role(struct connection *c, struct work *w, __u64 size)
{
	__u64 word = load64(w->window);
	int response = size >= 2 && plausible_start(word, size > 7 ? 7 : size, 1);

	if (!response && !plausible_start(word, size, 0))
		return 0;
	c->role = (response ? !w->incoming : w->incoming) ? ROLE_SERVER : ROLE_CLIENT;
	c->slot.role = c->role;
	c->guessed = 1;
	c->guessed_by = w->incoming;
	w->side = response ? SIDE_RESPONSE : SIDE_REQUEST;
	return 1;
}

/*
 * Reads the next bytes where lines are expected: in a head, before a chunk, after the last one. What is decided is
 * kept in memory, and barriers part the steps, so that all the ways that lead to the next step look alike to the
 * verifier.
 */
static __always_inline enum outcome read_lines(struct connection *c, struct work *w)
{
	struct framer *f = &c->framers[w->side & 1];

	if (w->opaque)
		return OUTCOME_LOST; /* chunks out of a file, size lines and all (lighttpd); a head: not seen in the wild */
	if (!find_segment(w))
		return w->vector_left ? OUTCOME_MORE : OUTCOME_DONE;

	__u64 available = w->segment_end - w->position, left = w->size - w->position;
	__u64 carried = f->carried;

	if (available > left)
		available = left;
	if (carried > CARRY)
		return OUTCOME_DONE;

	__u64 room = f->phase == HTTP1_CHUNK_SIZE ? CHUNK_LINE : WINDOW - carried;
	__u64 n = available > room ? room : available;

	if (n > WINDOW)
		return OUTCOME_DONE;
	w->scan.size = 0;
	if (carried)
		bpf_probe_read_kernel(w->window, at_most(carried, CARRY), f->carry);
	if (bpf_probe_read_user(w->window + at_most(carried, CARRY), at_most(n, WINDOW),
				(void *)(w->segment_begin + (w->position - w->segment_at)))) {
		if (w->entering) {
			/* not in memory yet: it will be when the call returns */
			c->entered = w->position;
			return OUTCOME_DONE;
		}
		count(COUNT_UNREADABLE);
		return OUTCOME_LOST;
	}
	w->scan.size = carried + n;
	http1_barrier();
	if (c->switched || (c->role == ROLE_UNKNOWN && !find_role(c, w, w->scan.size)))
		return OUTCOME_LOST;
	http1_barrier();
	f = &c->framers[w->side & 1];

	__u64 size = w->scan.size;
	if (size > WINDOW)
		return OUTCOME_DONE;
	if (!(f->flags & FRAMER_BEGUN)) {
		if (c->fresh && !c->requests && w->side == SIDE_REQUEST) {
			__u64 skip = proxy_header(f, load64(w->window), w->window, size);

			if (skip) {
				w->position += skip < left ? skip : left;
				return OUTCOME_MORE;
			}
		}
		if (w->window[0] == '\r' || w->window[0] == '\n') {
			w->position++; /* RFC 9112, 2.2: empty lines before a request line */
			return OUTCOME_MORE;
		}
		if (!plausible_start(load64(w->window), size, w->side & 1))
			return OUTCOME_LOST;
		if (w->side == SIDE_REQUEST && c->framers[SIDE_RESPONSE].flags & FRAMER_UNSEEN)
			return OUTCOME_LOST; /* which is to end first */
		f->flags = FRAMER_BEGUN;
		if (w->side == SIDE_REQUEST)
			begin_request(c, w);
		else
			begin_response(c, w);
	}
	http1_barrier();
	w->heading = w->side == SIDE_REQUEST && f->phase <= HTTP1_FIELDS;
	if (w->heading) {
		struct exchange *x = current_request(c, w->sock);

		if (x)
			keep_head(x, f, w, size);
	}
	return OUTCOME_LINES;
}

/* The lines in the window have been scanned. */
static __always_inline enum outcome take_lines(struct connection *c, struct work *w)
{
	struct framer *f = &c->framers[w->side & 1];

	if (w->event == HTTP1_INVALID)
		return OUTCOME_LOST;
	if (f->phase != HTTP1_START_LINE || w->event != HTTP1_MORE)
		c->guessed = 0;
	if (w->heading) {
		struct exchange *x = current_request(c, w->sock);

		if (x)
			keep_fields(x, f, w);
#ifdef PROPAGATE_HEADERS
		if (w->scan.traceparent_at)
			announce_no_field(w);
#endif
	}
	http1_barrier();
	if (w->event == HTTP1_MORE)
		return carry_line(w, f, w->scan.size);
	w->position += w->scan.line - f->carried;
	f->carried = 0;
	if (w->event == HTTP1_END)
		return OUTCOME_ENDED;
	if (w->event == HTTP1_CHUNK) {
		http1_after_chunk_size(f);
		return OUTCOME_MORE;
	}
	if (w->side == SIDE_RESPONSE)
		return finish_response_head(c, w, f);
	w->begun = 1;
	w->streams[0] = c->requests - 1;
#ifdef PROPAGATE
	struct exchange *asked = current_request(c, w->sock);
	__u32 method = 0;

	if (asked)
		__builtin_memcpy(&method, asked->head, 4);
	if (method == METHOD_CONNECT)
		announce_no_more(w); /* behind it is a tunnel */
	announce_head(w, c->requests);
	arrive_head(c, w);
	http1_barrier();
	f = &c->framers[w->side & 1];
#endif
	return http1_after_head(f, 0, 0) ? OUTCOME_ENDED : OUTCOME_MORE;
}

/*
 * A look at the next bytes of the call, a head and what follows of its body, a chunk, or a part of that, in three: each
 * leaves to the next what is in memory.
 */
struct bytes_at_hand {
	struct connection *c;
	struct work *w;
};

static __always_inline enum outcome begin_to_look(struct connection *c, struct work *w)
{
	if (w->position >= w->size && !use_next_message(w))
		return OUTCOME_DONE;
	if (c->ignored)
		return OUTCOME_DONE;
	return c->framers[w->side & 1].phase < HTTP1_BODY ? read_lines(c, w) : OUTCOME_MORE;
}

APART(begin_look, struct bytes_at_hand)
{
	return begin_to_look(at->c, at->w);
}

APART(scan_lines, struct bytes_at_hand)
{
	struct work *w = at->w;

	w->event = http1_scan(&at->c->framers[w->side & 1], &w->scan, w->window, w->scan.size, w->side & 1);
	return OUTCOME_LINES;
}

/* Returns OUTCOME_MORE, _DONE or _LOST. */
static __always_inline enum outcome end_to_look(struct connection *c, struct work *w)
{
	struct framer *f;

	if (w->outcome == OUTCOME_LINES)
		w->outcome = take_lines(c, w);
	http1_barrier();
	f = &c->framers[w->side & 1];
	if (w->outcome == OUTCOME_MORE && f->phase >= HTTP1_BODY && w->position < w->size)
		w->outcome = take_body(w, f);
	http1_barrier();
	if (w->outcome != OUTCOME_ENDED)
		return w->outcome;
	if (w->side == SIDE_REQUEST)
		end_request(c, w);
	else
		end_response(c, w->time);
	return OUTCOME_MORE;
}

APART(end_look, struct bytes_at_hand)
{
	return end_to_look(at->c, at->w);
}

/* The kernel's limit of tail calls (33) is near, in the middle of a call. */
static __always_inline void cut_short(struct connection *c, struct work *w)
{
	struct framer *f = &c->framers[w->side & 1];

	count(COUNT_STEPS_EXHAUSTED);
#ifdef PROPAGATE
	announce_no_more(w);
#endif
	if (f->phase == HTTP1_CHUNK_SIZE || f->phase == HTTP1_CHUNK_DATA) {
		/* many small chunks: the end of the body will be known by its bytes, its size only about */
		f->phase = HTTP1_CHUNKS_LOST;
		f->remaining = 0;
		f->flags |= FRAMER_ABOUT;
		f->carried = 0;
		return;
	}
	if (c->guessed && f->phase == HTTP1_START_LINE)
		forget_guess(c, w); /* a body with long lines, cut by our beginning, that looked like a request */
	else
		c->ignored = 1;
}

/* What was looked at is no HTTP/1, or no longer; returns whether to look again behind it. */
static __always_inline int go_on_lost(struct connection *c, struct work *w)
{
	lose_track(c, w, &c->framers[w->side & 1]);
	if (w->position >= w->size)
		return 0;
	if (++w->steps < MAX_STEPS)
		return 1;
	cut_short(c, w);
	return 0;
}

/* Is what comes next the size line of a chunk, or the rest of its data? */
static __always_inline int before_chunk(struct connection *c, struct work *w)
{
	struct framer *f = &c->framers[w->side & 1];

	return f->phase == HTTP1_CHUNK_DATA || (f->phase == HTTP1_CHUNK_SIZE && !f->carried);
}

/* Looks at one window; returns whether to look at another one. `once`: no other one is looked at by this program. */
static __always_inline int look_on(void *ctx, struct work *w, struct bytes_at_hand *at, const int once)
{
	w->outcome = once ? begin_to_look(at->c, w) : TURN(begin_look, at);
	http1_barrier();
	if (w->outcome == OUTCOME_LINES)
		TURN(scan_lines, at);
	http1_barrier();
	if (w->outcome == OUTCOME_LINES || w->outcome == OUTCOME_MORE)
		w->outcome = once ? end_to_look(at->c, w) : TURN(end_look, at);
	http1_barrier();
	if (w->outcome == OUTCOME_LOST)
		steps.call(ctx, STEP_LOST);
	return w->outcome == OUTCOME_MORE && (w->position < w->size || w->messages_left);
}

/* Looks at the whole call, as far as one run can; then again, by a tail call. */
static __always_inline void look_at_call(void *ctx, struct connection *c, struct work *w)
{
	struct bytes_at_hand at = {c, w};

	if (before_chunk(c, w) && !w->skipped) {
		w->skipped = 1;
		if (++w->steps < MAX_STEPS)
			steps.call(ctx, STEP_CHUNKS);
	}
	w->skipped = 0;
	/* what is asked last is a memory's content: Linux 5.10 takes only loops that are closed by a jump */
	TURNS(windows, w->turns, WINDOWS_A_RUN);
	do {
		if (!look_on(ctx, w, &at, 0)) {
			if (w->begun)
				steps.call(ctx, STEP_PLACE);
			return;
		}
	} while (ANOTHER(windows) && !before_chunk(c, w));
	if (++w->steps >= MAX_STEPS && !w->cut) {
		w->cut = 1;
		cut_short(c, w);
	}
	steps.call(ctx, STEP_LOOK);
}

/*
 * The same, by a program that has found the connection itself: most calls are one window, and to find connection and work
 * once more would take as long as to look at that.
 */
static __always_inline void look_at_first(void *ctx, struct connection *c, struct work *w)
{
	struct bytes_at_hand at = {c, w};

	http1_barrier();
	if (before_chunk(c, w) || look_on(ctx, w, &at, 1))
		steps.call(ctx, STEP_LOOK);
	else if (w->begun && !place_plainly(c, w))
		steps.call(ctx, STEP_PLACE);
}

#endif
