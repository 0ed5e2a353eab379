// SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0
/*
 * Requests of odd shapes over TCP, each byte held against what arrives.
 *
 *     odd REQUESTS SEED ADDRESS [NETWORK-NAMESPACE]
 *
 * Several pairs of threads: one writes as a client, one reads as a server (in the other network namespace, if there is
 * one) and answers. The reader knows what was written; the only thing that may come in addition is a field `traceparent`,
 * once, at the end of the head of a request that has none, and never in what is no request. Prints `listening`, waits for
 * a line on standard input, and prints one line of JSON in the end. Exit status 1: some byte was not right.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAIRS 24
#define ROOM (3 << 20) /* of one plan */
#define HEADS 64
#define PIECES 4096
#define FIELD 70 /* of an inserted field, CRLF included */
#define SECONDS 60 /* without progress: it hangs */

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#define CONTINUE "HTTP/1.1 100 Continue\r\n\r\n"
#define SWITCH "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
#define TUNNEL "HTTP/1.1 200 Connection established\r\n\r\n"

enum how { WRITE, MORE, VECTOR, FILE_, PIPE_, MANY, ZEROCOPY, NONBLOCKING, HOWS };

struct piece {
	enum how how;
	size_t end; /* offset in bytes */
};

/* What is written between two answers. */
struct plan {
	char *bytes;
	size_t size;
	size_t heads[HEADS]; /* offsets at which a field may be inserted */
	int head_count;
	struct piece pieces[PIECES];
	int piece_count;
	size_t interim_at; /* how much the reader wants to have before it says 100 Continue; 0: it does not */
	const char *answer;
	int answers;
	int untouched; /* nothing may be inserted */
	int plain;  /* one small request in one call: gets the field, if any does */
	size_t abort_at; /* the writer resets the connection there; 0: it does not */
};

struct pair {
	int number, listener, port;
	int orders[2], done[2];
	uint64_t state;
	struct plan plan;
	int memory; /* a file with the plan's bytes */
	int socket;
	int other; /* what was written on this connection is not requests alone, or can't be seen: nothing may be inserted any more */
};

static struct pair pairs[PAIRS];
static long wanted, made, inserted, plain, plain_inserted, connections_made, inq_wrong, resets;
static long by_shape[32];
static struct sockaddr_in address;
static const char *namespace_;

static void fail(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	fprintf(stderr, "odd: ");
	vfprintf(stderr, format, list);
	fprintf(stderr, "\n");
	va_end(list);
	_exit(1);
}

#define must(what)                                                                                                     \
	({                                                                                                             \
		__typeof__(what) result = (what);                                                                      \
		if (result < 0)                                                                                        \
			fail("%s: %s", #what, strerror(errno));                                                        \
		result;                                                                                                \
	})

static uint64_t draw(struct pair *p)
{
	p->state ^= p->state << 13;
	p->state ^= p->state >> 7;
	p->state ^= p->state << 17;
	return p->state * 0x2545F4914F6CDD1DULL >> 11;
}

static size_t below(struct pair *p, size_t limit)
{
	return draw(p) % limit;
}

/* --- plans */

static void add(struct plan *plan, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	plan->size += vsnprintf(plan->bytes + plan->size, 65536, format, list);
	va_end(list);
}

static void add_bytes(struct pair *p, size_t size)
{
	static const char *const like[] = {
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST /x HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", "\r\n\r\n",
		"HTTP/1.1 200 OK\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "0\r\n\r\n", "CONNECT a:1 HTTP/1.1\r\n\r\n",
		"\x16\x03\x01\x02", "traceparent: 00-", "GET /", "\n\n", "\0\0\0\0\0\0\0",
	};
	struct plan *plan = &p->plan;
	size_t end = plan->size + size;

	while (plan->size < end) {
		const char *text = like[below(p, sizeof(like) / sizeof(*like))];
		size_t n = strlen(text);

		if (below(p, 3)) {
			uint64_t word = draw(p);

			n = 1 + below(p, 7);
			if (n > end - plan->size)
				n = end - plan->size;
			memcpy(plan->bytes + plan->size, &word, n);
		} else {
			if (n > end - plan->size)
				n = end - plan->size;
			memcpy(plan->bytes + plan->size, text, n);
		}
		plan->size += n;
	}
}

static void add_fill(struct pair *p, size_t size)
{
	struct plan *plan = &p->plan;

	while (size >= 8) {
		uint64_t word = draw(p);

		memcpy(plan->bytes + plan->size, &word, 8);
		plan->size += 8;
		size -= 8;
	}
	while (size--)
		plan->bytes[plan->size++] = 'z';
}

static void begin_head(struct pair *p, const char *method)
{
	static const char *const paths[] = {"/", "/a/b?c=d", "/%20x", "*", "http://a.example/x"};

	add(&p->plan, "%s %s HTTP/1.%d\r\nHost: odd.example\r\n", method, paths[below(p, 5)], below(p, 8) != 0);
}

/* `told`: it may get a field. */
static void end_head(struct pair *p, int told)
{
	struct plan *plan = &p->plan;

	if (told && plan->head_count < HEADS)
		plan->heads[plan->head_count++] = plan->size;
	add(plan, "\r\n");
}

static void piece(struct plan *plan, enum how how)
{
	if (plan->piece_count == PIECES)
		fail("too many pieces");
	plan->pieces[plan->piece_count].how = how;
	plan->pieces[plan->piece_count++].end = plan->size;
}

/* What is there is written in pieces of some size. */
static void cut(struct pair *p, size_t from, size_t most)
{
	struct plan *plan = &p->plan;
	size_t end = plan->size;

	while (from < end && plan->piece_count < PIECES - 1) {
		from += 1 + below(p, most);
		plan->size = from < end ? from : end;
		piece(plan, below(p, 2) ? WRITE : below(p, HOWS));
	}
	plan->size = end;
	if (plan->pieces[plan->piece_count - 1].end != end)
		piece(plan, WRITE);
}

static void simple(struct pair *p)
{
	begin_head(p, "GET");
	for (size_t n = below(p, 12); n; n--)
		add(&p->plan, "X-Field-%zu: %0*d\r\n", n, (int)below(p, 60) + 1, 7);
	end_head(p, 1);
}

static void own_field(struct pair *p)
{
	static const char *const names[] = {"traceparent", "Traceparent", "TRACEPARENT", "tRaCePaReNt", "TraceParent"};

	begin_head(p, "GET");
	for (size_t n = below(p, 9); n; n--)
		add(&p->plan, "Cookie-%zu: %0*d\r\n", n, (int)below(p, 150) + 1, 7);
	add(&p->plan, "%s:%*s00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n", names[below(p, 5)],
	    (int)(below(p, 9) ? below(p, 2) : 600), "");
	if (below(p, 2))
		add(&p->plan, "X: y\r\n");
	end_head(p, 0);
}

static void chunked(struct pair *p)
{
	size_t head;

	begin_head(p, "POST");
	add(&p->plan, "Transfer-Encoding: chunked\r\n");
	end_head(p, 1);
	head = p->plan.size;
	piece(&p->plan, WRITE);
	for (size_t n = 1 + below(p, 12); n; n--) {
		size_t size = 1 + below(p, 4000);

		add(&p->plan, "%zx\r\n", size);
		if (below(p, 2))
			piece(&p->plan, WRITE); /* so that the data begin with a write of their own */
		add_bytes(p, size);
		if (below(p, 2))
			piece(&p->plan, WRITE);
		add(&p->plan, "\r\n");
		piece(&p->plan, WRITE);
	}
	add(&p->plan, "0\r\n%s\r\n", below(p, 4) ? "" : "Trailer: x\r\n");
	piece(&p->plan, WRITE);
	(void)head;
}

static void with_body(struct pair *p, size_t size, int likely)
{
	begin_head(p, "PUT");
	add(&p->plan, "Content-Length: %zu\r\n", size);
	end_head(p, 1);
	if (likely) {
		piece(&p->plan, WRITE);
		add_bytes(p, size);
	} else {
		add_fill(p, size);
	}
}

enum shape {
	SIMPLE, SIMPLE_AGAIN, SIMPLE_TOO, BY_BYTE, IN_PIECES, PIPELINED, HUGE_HEAD, HUGE_BODY, LOOKS_LIKE, CHUNKED, OWN,
	EXPECTS, UPGRADES, CONNECTS, FROM_FILE, SEGMENTS, SAYS_MORE, UNBLOCKED, ABORTED, NO_HTTP, BARE, EMPTY_LINES, SHAPES
};

/* Plans what is written next; returns how many requests that is. -1: the connection ends behind it. */
static int make_plan(struct pair *p, int *ends, int *raw)
{
	struct plan *plan = &p->plan;
	enum shape shape = *raw ? NO_HTTP : (enum shape)below(p, SHAPES);
	int count = 1;

	plan->size = plan->interim_at = plan->abort_at = 0;
	plan->head_count = plan->piece_count = plan->plain = 0;
	plan->answer = OK;
	plan->answers = 1;
	*ends = below(p, 40) == 0;
	by_shape[shape]++;
	p->other |= shape == CONNECTS || shape == NO_HTTP;
	plan->untouched = p->other;
	switch (shape) {
	case BY_BYTE:
		begin_head(p, "GET");
		end_head(p, 1);
		for (size_t i = 0, end = plan->size; i < end; i++) {
			plan->pieces[i].how = WRITE;
			plan->pieces[i].end = i + 1;
			plan->piece_count = i + 1;
		}
		break;
	case IN_PIECES:
		with_body(p, below(p, 3000), 0);
		cut(p, 0, 200);
		break;
	case PIPELINED:
		count = 2 + below(p, 12);
		for (int i = 0; i < count; i++) {
			if (below(p, 3))
				simple(p);
			else
				own_field(p);
			if (below(p, 4) == 0)
				piece(plan, WRITE);
		}
		if (!plan->piece_count || plan->pieces[plan->piece_count - 1].end != plan->size)
			piece(plan, WRITE);
		plan->answers = count;
		break;
	case HUGE_HEAD:
		begin_head(p, "GET");
		for (size_t n = 1 + below(p, 60); n; n--)
			add(plan, "X-%zu: %0*d\r\n", n, (int)below(p, 2000) + 1, 7);
		end_head(p, 1);
		if (below(p, 2))
			piece(plan, WRITE);
		else
			cut(p, 0, 9000);
		break;
	case HUGE_BODY:
		with_body(p, below(p, below(p, 8) ? 100000 : 2000000), 0);
		if (below(p, 2))
			piece(plan, below(p, 2) ? WRITE : NONBLOCKING);
		else
			cut(p, 0, 300000);
		break;
	case LOOKS_LIKE:
		with_body(p, 1 + below(p, 9000), 1);
		cut(p, plan->pieces[0].end, 2000);
		break;
	case CHUNKED:
		chunked(p);
		break;
	case OWN:
		own_field(p);
		piece(plan, below(p, 2) ? WRITE : VECTOR);
		break;
	case EXPECTS:
		begin_head(p, "POST");
		add(plan, "Content-Length: 40\r\nExpect: 100-continue\r\n");
		end_head(p, 1);
		piece(plan, WRITE);
		plan->interim_at = plan->size;
		add_bytes(p, 40);
		piece(plan, WRITE);
		break;
	case UPGRADES:
		begin_head(p, "GET");
		add(plan, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n");
		end_head(p, 1);
		piece(plan, WRITE);
		plan->answer = SWITCH;
		*raw = 1 + below(p, 5);
		return count;
	case CONNECTS:
		add(plan, "CONNECT odd.example:443 HTTP/1.1\r\nHost: odd.example:443\r\n\r\n");
		piece(plan, WRITE);
		plan->answer = TUNNEL;
		*raw = 1 + below(p, 5);
		return count;
	case FROM_FILE:
		with_body(p, below(p, 200000), 0);
		if (below(p, 3)) {
			/* the head by a write, the body by sendfile: as servers do it */
			size_t end = plan->size;

			plan->size = plan->heads[0] + 2;
			piece(plan, below(p, 2) ? MORE : WRITE);
			plan->size = end;
		}
		piece(plan, below(p, 2) ? FILE_ : PIPE_);
		break;
	case SEGMENTS:
		with_body(p, below(p, 20000), 0);
		piece(plan, below(p, 4) ? VECTOR : MANY);
		break;
	case SAYS_MORE:
		with_body(p, below(p, 20000), 0);
		{
			size_t end = plan->size;

			plan->size = plan->heads[0] + 2;
			piece(plan, MORE);
			plan->size = end;
		}
		piece(plan, below(p, 2) ? WRITE : ZEROCOPY);
		break;
	case UNBLOCKED:
		with_body(p, below(p, 1000000), 0);
		piece(plan, below(p, 3) ? NONBLOCKING : ZEROCOPY);
		break;
	case ABORTED:
		with_body(p, 1 + below(p, 50000), 0);
		cut(p, 0, 20000);
		plan->abort_at = plan->pieces[below(p, plan->piece_count)].end;
		*ends = 1;
		break;
	case NO_HTTP:
		add_bytes(p, 1 + below(p, 5000));
		plan->bytes[0] = 0x80 | plan->bytes[0]; /* no letter, so that it is no request to anybody */
		cut(p, 0, 3000);
		plan->answer = "ok";
		if (*raw)
			--*raw;
		else
			*raw = below(p, 4);
		*ends = !*raw;
		return 1;
	case BARE:
		add(plan, "GET /bare HTTP/1.1\nHost: a\n\n");
		piece(plan, WRITE);
		break;
	case EMPTY_LINES:
		add(plan, "\r\n\r\n");
		if (below(p, 2))
			piece(plan, WRITE);
		simple(p);
		piece(plan, WRITE);
		break;
	default:
		simple(p);
		piece(plan, below(p, 4) ? WRITE : MANY);
		plan->plain = plan->pieces[0].how == WRITE && !p->other;
	}
	return count;
}

/* --- the writer */

static void wrote(int to, ssize_t n, size_t asked)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (n < 0)
		fail("a write failed: %s", strerror(errno));
	if ((size_t)n != asked) {
		getsockopt(to, SOL_SOCKET, SO_ERROR, &error, &size);
		fail("a write of %zu bytes returned %zd; the socket's error: %s", asked, n, strerror(error));
	}
}

static void write_vector(struct pair *p, const char *from, size_t size)
{
	struct iovec parts[64];
	int n = 0;

	while (size && n < 63) {
		size_t part = below(p, 5) ? below(p, size / 3 + 2) : 0;

		parts[n].iov_base = (void *)from;
		parts[n++].iov_len = part = part < size ? part : size;
		from += part;
		size -= part;
	}
	parts[n].iov_base = (void *)from;
	parts[n++].iov_len = size;
	size = 0;
	for (int i = 0; i < n; i++)
		size += parts[i].iov_len;
	wrote(p->socket, writev(p->socket, parts, n), size);
}

static void write_many(struct pair *p, char *from, size_t size)
{
	struct mmsghdr messages[4] = {};
	struct iovec parts[4];
	size_t each = size / 4;

	for (int i = 0; i < 4; i++) {
		parts[i].iov_base = from + i * each;
		parts[i].iov_len = i < 3 ? each : size - 3 * each;
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	int n = must(sendmmsg(p->socket, messages, 4, 0));
	for (int i = 0; i < n; i++) {
		if (messages[i].msg_len != parts[i].iov_len)
			fail("message %d of %zu bytes: %u", i, parts[i].iov_len, messages[i].msg_len);
	}
	if (n != 4)
		fail("%d of 4 messages were sent", n);
}

static void write_without_waiting(struct pair *p, const char *from, size_t size)
{
	struct pollfd ready = {.fd = p->socket, .events = POLLOUT};

	while (size) {
		ssize_t n = send(p->socket, from, size, MSG_DONTWAIT);

		if (n < 0 && errno == EAGAIN) {
			if (must(poll(&ready, 1, SECONDS * 1000)) == 0)
				fail("a socket does not become writable");
			continue;
		}
		if (must(n) == 0)
			fail("a send returned 0");
		from += n;
		size -= n;
	}
}

static void from_file(struct pair *p, size_t from, size_t size, int by_pipe)
{
	loff_t at = from;
	int ends[2];

	if (by_pipe)
		must(pipe(ends));
	while (size) {
		ssize_t n;

		if (by_pipe) {
			n = must(splice(p->memory, &at, ends[1], NULL, size < 65536 ? size : 65536, 0));
			for (ssize_t left = n; left;)
				left -= must(splice(ends[0], NULL, p->socket, NULL, left, 0));
		} else {
			n = must(sendfile(p->socket, p->memory, &at, size));
		}
		if (!n)
			fail("nothing was moved");
		size -= n;
	}
	if (by_pipe) {
		close(ends[0]);
		close(ends[1]);
	}
}

static void write_piece(struct pair *p, enum how how, size_t from, size_t size)
{
	char *bytes = p->plan.bytes + from;
	int yes = 1;

	switch (how) {
	case MORE:
		wrote(p->socket, send(p->socket, bytes, size, MSG_MORE), size);
		break;
	case VECTOR:
		write_vector(p, bytes, size);
		break;
	case FILE_:
	case PIPE_:
		from_file(p, from, size, how == PIPE_);
		break;
	case MANY:
		write_many(p, bytes, size);
		break;
	case ZEROCOPY:
		{
			/* refused on a socket whose messages may be changed */
			int allowed = setsockopt(p->socket, SOL_SOCKET, SO_ZEROCOPY, &yes, sizeof(yes)) == 0;
			ssize_t n = send(p->socket, bytes, size, allowed ? MSG_ZEROCOPY : 0);

			if (n < 0 && errno == ENOBUFS)
				n = send(p->socket, bytes, size, 0);
			wrote(p->socket, n, size);
		}
		break;
	case NONBLOCKING:
		write_without_waiting(p, bytes, size);
		break;
	default:
		wrote(p->socket, write(p->socket, bytes, size), size);
	}
}

static void expect_answer(struct pair *p, const char *text, int times)
{
	struct pollfd ready = {.fd = p->socket, .events = POLLIN};
	size_t size = strlen(text), got = 0;
	char buffer[4096];
	int waiting = 0;

	while (got < size * times) {
		size_t left = size * times - got;

		do {
			if (must(poll(&ready, 1, SECONDS * 1000)) == 0)
				fail("no answer");
		} while (!(ready.revents & (POLLIN | POLLHUP)) && !(ready.revents & POLLERR &&
			 recv(p->socket, buffer, 1, MSG_ERRQUEUE | MSG_DONTWAIT) > -2)); /* notices of zero copies */
		if (ready.revents & POLLIN && ioctl(p->socket, FIONREAD, &waiting) == 0 && waiting <= 0)
			inq_wrong++;

		ssize_t n = recv(p->socket, buffer, left < sizeof(buffer) ? left : sizeof(buffer), 0);
		if (n < 0 && errno == EAGAIN)
			continue;
		if (must(n) == 0)
			fail("the connection ended before its answer");
		for (ssize_t i = 0; i < n; i++) {
			if (buffer[i] != text[(got + i) % size])
				fail("a wrong answer");
		}
		got += n;
	}
}

static void open_connection(struct pair *p)
{
	struct sockaddr_in to = address;
	int yes = 1, small = 16384;

	to.sin_port = htons(p->port);
	p->other = 0;
	p->socket = must(socket(AF_INET, SOCK_STREAM, 0));
	if (below(p, 3) == 0)
		setsockopt(p->socket, SOL_SOCKET, SO_SNDBUF, &small, sizeof(small));
	if (below(p, 8) == 0)
		p->other = setsockopt(p->socket, SOL_SOCKET, SO_ZEROCOPY, &yes, sizeof(yes)) == 0; /* left alone */
	must(connect(p->socket, (struct sockaddr *)&to, sizeof(to)));
	if (below(p, 8))
		setsockopt(p->socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	__sync_fetch_and_add(&connections_made, 1);
}

static void close_connection(struct pair *p, int reset)
{
	struct linger now = {.l_onoff = 1};

	if (reset)
		setsockopt(p->socket, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(p->socket);
	p->socket = -1;
}

static void *writer(void *argument)
{
	struct pair *p = argument;
	struct plan *plan = &p->plan;
	int ends = 1, raw = 0;
	char byte;

	while (made < wanted) {
		if (ends) {
			raw = 0;
			open_connection(p);
		}
		int count = make_plan(p, &ends, &raw);
		size_t from = 0;
		char order = ends ? 'e' : 'g';

		must(pwrite(p->memory, plan->bytes, plan->size, 0));
		wrote(p->orders[1], write(p->orders[1], &order, 1), 1);
		for (int i = 0; i < plan->piece_count; i++) {
			size_t end = plan->pieces[i].end;

			if ((plan->pieces[i].how == FILE_ || plan->pieces[i].how == PIPE_) && plan->head_count &&
			    from < plan->heads[0] + 2)
				p->other = 1; /* a head out of a file */
			if (end != from)
				write_piece(p, plan->pieces[i].how, from, end - from);
			from = end;
			if (plan->abort_at && from >= plan->abort_at)
				break;
			if (plan->interim_at == from && from)
				expect_answer(p, CONTINUE, 1);
		}
		if (plan->abort_at) {
			close_connection(p, 1);
			__sync_fetch_and_add(&resets, 1);
		} else {
			expect_answer(p, plan->answer, plan->answers);
			if (ends)
				close_connection(p, below(p, 4) == 0);
		}
		if (must(read(p->done[0], &byte, 1)) != 1)
			fail("the reader is gone");
		__sync_fetch_and_add(&made, count);
	}
	if (!ends)
		close_connection(p, 0);
	close(p->orders[1]);
	return NULL;
}

/* --- the reader */

struct check {
	size_t at;  /* bytes that were right */
	int head;   /* next of the plan's heads */
	int field;  /* bytes of a field that has been inserted, so far */
	char text[FIELD];
};

static int right_field(const char *text)
{
	if (memcmp(text, "traceparent: 00-", 16) || text[48] != '-' || text[65] != '-' || memcmp(text + 68, "\r\n", 2))
		return 0;
	for (int i = 16; i < 68; i++) {
		if (i != 48 && i != 65 && !strchr("0123456789abcdef", text[i]))
			return 0;
	}
	return 1;
}

static void compare(struct pair *p, struct check *c, const char *buffer, size_t size)
{
	struct plan *plan = &p->plan;

	for (size_t i = 0; i < size;) {
		if (c->field) {
			c->text[c->field++] = buffer[i++];
			if (c->field == FIELD) {
				if (!right_field(c->text))
					fail("no field: %.70s", c->text);
				__sync_fetch_and_add(&inserted, 1);
				if (plan->plain)
					__sync_fetch_and_add(&plain_inserted, 1);
				c->field = 0;
			}
			continue;
		}
		while (c->head < plan->head_count && plan->heads[c->head] < c->at)
			c->head++;

		size_t until = c->head < plan->head_count ? plan->heads[c->head] : plan->size;
		size_t n = until - c->at < size - i ? until - c->at : size - i;

		if (memcmp(plan->bytes + c->at, buffer + i, n)) {
			for (n = 0; plan->bytes[c->at + n] == buffer[i + n]; n++)
				;
			fail("byte %zu of %zu is not right: \"%.80s\" in place of \"%.80s\"", c->at + n, plan->size,
			     buffer + i + n, plan->bytes + c->at + n);
		}
		c->at += n;
		i += n;
		if (i == size)
			break;
		if (c->at != until || c->head == plan->head_count)
			fail("%zu bytes too many: \"%.80s\"", size - i, buffer + i);
		if (buffer[i] == 't' && !plan->untouched) {
			c->text[0] = buffer[i++];
			c->field = 1;
		} else if (buffer[i] != plan->bytes[c->at]) {
			fail("at the end of a head: \"%.80s\"", buffer + i);
		}
		c->head++; /* no second one there */
	}
}

static void answer(int socket, const char *text, int times)
{
	for (int i = 0; i < times; i++)
		send(socket, text, strlen(text), MSG_NOSIGNAL);
}

static void *reader(void *argument)
{
	struct pair *p = argument;
	struct sockaddr_in at = address;
	socklen_t size = sizeof(at);
	int connection = -1, yes = 1;
	char *buffer = malloc(1 << 18), order;

	if (namespace_) {
		int fd = must(open(namespace_, O_RDONLY));

		must(setns(fd, CLONE_NEWNET));
		close(fd);
	}
	at.sin_port = 0;
	p->listener = must(socket(AF_INET, SOCK_STREAM, 0));
	setsockopt(p->listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	must(bind(p->listener, (struct sockaddr *)&at, sizeof(at)));
	must(listen(p->listener, 16));
	must(getsockname(p->listener, (struct sockaddr *)&at, &size));
	p->port = ntohs(at.sin_port);
	wrote(p->done[1], write(p->done[1], "l", 1), 1);

	while (read(p->orders[0], &order, 1) == 1) {
		struct plan *plan = &p->plan;
		struct check c = {};
		int interim = 0;

		if (connection < 0)
			connection = must(accept(p->listener, NULL, NULL));
		while (c.at < plan->size) {
			ssize_t n = recv(connection, buffer, 1 + (plan->size & 1 ? 777 : (1 << 18) - 1), 0);

			if (n <= 0) {
				if (!plan->abort_at)
					fail("the connection ended after %zu of %zu bytes: %s", c.at, plan->size,
					     n ? strerror(errno) : "end");
				break;
			}
			compare(p, &c, buffer, n);
			if (plan->interim_at && c.at == plan->interim_at && !interim++)
				answer(connection, CONTINUE, 1);
		}
		if (plan->plain)
			__sync_fetch_and_add(&plain, 1);
		if (!plan->abort_at)
			answer(connection, plan->answer, plan->answers);
		if (order == 'e') {
			/* nothing may come behind it */
			while (!plan->abort_at) {
				ssize_t n = recv(connection, buffer, 1 << 18, 0);

				if (n <= 0)
					break;
				fail("%zd bytes too many at the end: \"%.80s\"", n, buffer);
			}
			close(connection);
			connection = -1;
		}
		wrote(p->done[1], write(p->done[1], "d", 1), 1);
	}
	return NULL;
}

static void *watchdog(void *unused)
{
	long before = -1;

	for (;; before = made) {
		for (int i = 0; i < SECONDS; i++)
			sleep(1);
		if (made == before)
			fail("nothing goes on after %ld requests", made);
	}
	return unused;
}

int main(int count, char **arguments)
{
	pthread_t writers[PAIRS], reader_, watch;
	char line[16];

	if (count < 4)
		fail("REQUESTS SEED ADDRESS [NETWORK-NAMESPACE]");
	wanted = atol(arguments[1]);
	address.sin_family = AF_INET;
	if (!inet_aton(arguments[3], &address.sin_addr))
		fail("%s is no address", arguments[3]);
	namespace_ = arguments[4];
	signal(SIGPIPE, SIG_IGN);
	for (int i = 0; i < PAIRS; i++) {
		struct pair *p = &pairs[i];

		p->number = i;
		p->state = strtoull(arguments[2], NULL, 10) * 0x9E3779B97F4A7C15ULL + i + 1;
		p->plan.bytes = malloc(ROOM);
		p->memory = must(memfd_create("plan", 0));
		must(pipe(p->orders));
		must(pipe(p->done));
		pthread_create(&reader_, NULL, reader, p);
		if (must(read(p->done[0], line, 1)) != 1)
			fail("no reader");
	}
	printf("listening\n");
	fflush(stdout);
	if (!fgets(line, sizeof(line), stdin))
		return 2;
	pthread_create(&watch, NULL, watchdog, NULL);
	for (int i = 0; i < PAIRS; i++)
		pthread_create(&writers[i], NULL, writer, &pairs[i]);
	for (int i = 0; i < PAIRS; i++)
		pthread_join(writers[i], NULL);
	printf("{\"requests\": %ld, \"connections\": %ld, \"resets\": %ld, \"inserted\": %ld, \"plain\": %ld, "
	       "\"plain_inserted\": %ld, \"inq_wrong\": %ld}\n",
	       made, connections_made, resets, inserted, plain, plain_inserted, inq_wrong);
	return 0;
}
