/* The kernels of the tuned mode on a CPU: float32 or float64 (REAL), NCHW, forward and backward.

   Every function works plane by plane (a plane is the H x W values of one channel of one picture, contiguous), so that a value
   is read from memory once for several operations. Where an argument has a stride it is the distance, in values, between
   pictures: a half of the channels then needs no copy. Sums run in a fixed order whatever the number of threads, so results do
   not depend on it. No function knows a network; `ops.py` says what each computes and `tests/unit/backends/test_cpu.py` compares. */
#include <stdlib.h>
#include <string.h>
#include <tgmath.h>

#ifndef REAL
#define REAL float
#endif
typedef REAL real;

/* bytes of the widest vector register, and how many side by side the tile of a 1x1 convolution has: what the registers hold */
#if defined __AVX512F__
#define BYTES 64
#define WIDE 4
#elif defined __AVX__
#define BYTES 32
#define WIDE 2
#elif defined __aarch64__
#define BYTES 16
#define WIDE 4
#else
#define BYTES 16
#define WIDE 2
#endif
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define SIZE_float 4
#define SIZE_double 8
#define INDEX_float int
#define INDEX_double long long
#define LANES (BYTES / JOIN(SIZE_, REAL)) /* values of a vector */
typedef real vec __attribute__((vector_size(BYTES), aligned(sizeof(real))));
typedef __typeof__((vec){0} < (vec){0}) mask;
typedef JOIN(INDEX_, REAL) places __attribute__((vector_size(BYTES)));
#define ROUND(n) (((n) + 4 * LANES - 1) / (4 * LANES) * (4 * LANES))
#define AT(p, i) (*(vec *)((p) + (i)))
typedef long long i64;

static inline real total(vec v) {
    real s[LANES];
    memcpy(s, &v, sizeof v);
    for (int half = LANES / 2; half; half /= 2)
        for (int i = 0; i < half; i++) s[i] += s[i + half];
    return s[0];
}

/* memcpy of a row: rows are short, and a call costs more than they do */
static inline void copy(real *restrict to, const real *restrict from, int n) {
    for (; n >= LANES; n -= LANES, to += LANES, from += LANES) AT(to, 0) = AT(from, 0);
#define PART(k) if (LANES > k && n & k) { memcpy(to, from, k * sizeof(real)); to += k, from += k; }
    PART(8) PART(4) PART(2) PART(1)
#undef PART
}

/* ---- lanes that are channels ----
   A row of a small plane leaves most of a vector empty, and sums over it end in sums over lanes. There LANES channels are worked on
   together, a vector holding one position of each: planes are transposed on the way in and on the way out. */
#if LANES == 16
#define FRONT 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define REAR 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif LANES == 8
#define FRONT 0, 8, 1, 9, 2, 10, 3, 11
#define REAR 4, 12, 5, 13, 6, 14, 7, 15
#elif LANES == 4
#define FRONT 0, 4, 1, 5
#define REAR 2, 6, 3, 7
#else
#define FRONT 0, 2
#define REAR 1, 3
#endif
#ifdef __clang__
#define PICK(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define PICK(a, b, ...) __builtin_shuffle(a, b, (places){__VA_ARGS__})
#endif

static inline __attribute__((always_inline)) void transpose(vec *rows) { /* each pass turns the bits of a value's place by one */
    for (int step = 1; step < LANES; step *= 2) {
        vec next[LANES];
        for (int i = 0; i < LANES / 2; i++) {
            next[2 * i] = PICK(rows[i], rows[i + LANES / 2], FRONT);
            next[2 * i + 1] = PICK(rows[i], rows[i + LANES / 2], REAR);
        }
        for (int i = 0; i < LANES; i++) rows[i] = next[i];
    }
}

static __attribute__((noinline)) vec some(const real *from, int n) { /* the first n <= LANES values, then zeros */
    if (n >= LANES) return AT(from, 0);
    real room[LANES] = {0};
    copy(room, from, n);
    return AT(room, 0);
}

static __attribute__((noinline)) void keep(vec v, real *to, int n) {
    if (n >= LANES) { AT(to, 0) = v; return; }
    real room[LANES];
    AT(room, 0) = v;
    copy(to, room, n);
}

/* `many` <= LANES planes of n values that follow each other: to[place[i]], or to[i], gets value i of each */
static __attribute__((noinline)) void to_lanes(const real *from, int many, int n, const int *place, vec *to) {
    for (int i = 0; i < n; i += LANES) {
        vec rows[LANES];
        for (int l = 0; l < LANES; l++) { /* what lies behind a plane's end is read as well, as long as it is a plane of these */
            int left = (many - l) * n - i;
            rows[l] = l >= many ? (vec){0} : left >= LANES ? AT(from, (i64)l * n + i) : some(from + (i64)l * n + i, left < n - i ? left : n - i);
        }
        transpose(rows);
        int count = n - i < LANES ? n - i : LANES;
        if (place) for (int l = 0; l < count; l++) to[place[i + l]] = rows[l];
        else for (int l = 0; l < count; l++) to[i + l] = rows[l];
    }
}

static __attribute__((noinline)) void from_lanes(const vec *from, int many, int n, real *to) {
    for (int i = 0; i < n; i += LANES) {
        vec rows[LANES];
        int count = n - i < LANES ? n - i : LANES;
        for (int l = 0; l < LANES; l++) rows[l] = l < count ? from[i + l] : (vec){0};
        transpose(rows);
        for (int l = 0; l < many; l++) keep(rows[l], to + (i64)l * n + i, count);
    }
}

static vec *lanes_room(i64 count) { /* zeros, each at an address that a register is loaded from at once */
    void *room = aligned_alloc(64, (count * sizeof(vec) + 63) / 64 * 64);
    return memset(room, 0, count * sizeof(vec));
}

/* y (h, w) = correlation of the padded x (h + k - 1, w + k - 1) with a kernel (k, k) a lane */
static inline __attribute__((always_inline)) void lanes_tile(const vec *x, int row, const vec *kernel, int k, vec *y, int T) {
    vec sum[8];
    for (int t = 0; t < T; t++) sum[t] = (vec){0};
    for (int a = 0; a < k; a++)
        for (int b = 0; b < k; b++)
            for (int t = 0; t < T; t++) sum[t] += kernel[a * k + b] * x[a * row + b + t];
    for (int t = 0; t < T; t++) y[t] = sum[t];
}

static inline __attribute__((always_inline)) void lanes_rows(const vec *x, const vec *kernel, int k, int h, int w, vec *y) {
    int row = w + k - 1;
    for (int r = 0; r < h; r++) {
        const vec *from = x + r * row;
        int c = 0;
        for (; c + 8 <= w; c += 8) lanes_tile(from + c, row, kernel, k, y + r * w + c, 8);
#define REST(T) case T: lanes_tile(from + c, row, kernel, k, y + r * w + c, T); break
        switch (w - c) { REST(1); REST(2); REST(3); REST(4); REST(5); REST(6); REST(7); }
#undef REST
    }
}

static __attribute__((noinline)) void lanes_convolve(const vec *x, const vec *kernel, int k, int h, int w, vec *y) {
    if (k == 3) lanes_rows(x, kernel, 3, h, w, y);
    else lanes_rows(x, kernel, k, h, w, y);
}

/* `rows` rows of dk, from row a on: sums over positions of d (padded as x is) times shifted x */
static inline __attribute__((always_inline)) void lanes_taps(const vec *x, const vec *d, int k, int a, int rows, int h, int w, vec *dk) {
    int row = w + k - 1;
    vec sum[9];
    for (int t = 0; t < rows * k; t++) sum[t] = (vec){0};
    for (int r = 0; r < h; r++)
        for (int c = 0; c < w; c++) {
            vec v = d[(r + k / 2) * row + k / 2 + c];
            for (int e = 0; e < rows; e++)
                for (int b = 0; b < k; b++) sum[e * k + b] += v * x[(r + a + e) * row + c + b];
        }
    for (int t = 0; t < rows * k; t++) dk[a * k + t] = sum[t];
}

static __attribute__((noinline)) void lanes_correlate(const vec *x, const vec *d, int k, int h, int w, vec *dk) {
    if (k == 3) lanes_taps(x, d, 3, 0, 3, h, w, dk);
    for (int a = 0; k == 5 && a < k; a++) lanes_taps(x, d, 5, a, 1, h, w, dk);
    for (int a = 0; k == 7 && a < k; a++) lanes_taps(x, d, 7, a, 1, h, w, dk);
    for (int a = 0; k == 9 && a < k; a++) lanes_taps(x, d, 9, a, 1, h, w, dk);
}

/* how many channels are worked on together: so many that their planes are some 4 KB side by side in memory, so few that there is
   work for 16 threads */
enum { MOST = 64 };
static int together(int C, int n) {
    int some = 1 + 1024 / n, few = (C + 15) / 16;
    return some < few ? (some < MOST ? some : MOST) : (few < MOST ? few : MOST);
}

/* ---- depthwise convolution of one plane ----
   The padded plane is kept as stride x stride phases (every other row and column), each with rows of `row` values. Then an output
   plane, with rows of the same length, is a sum of shifted phases: one loop over a line, however small the plane is. */
enum { TAPS = 81 }; /* the most of a kernel */
typedef struct {
    int h, w, k, s, p, oh, ow;       /* input, kernel, stride, padding, output */
    int row, phase, line, reach;     /* values of a row, a phase, an output line; the largest shift */
    int off[TAPS];                   /* of each tap: where its phase begins plus its shift */
} Geometry;

static Geometry geometry(int h, int w, int k, int s, int p) {
    Geometry g = {h, w, k, s, p, (h + 2 * p - k) / s + 1, (w + 2 * p - k) / s + 1};
    g.row = (w + 2 * p + s - 1) / s;
    g.reach = (k - 1) / s * (g.row + 1);
    g.phase = ROUND((h + 2 * p + s - 1) / s * g.row) + ROUND(g.reach);
    g.line = (g.oh - 1) * g.row + g.ow;
    for (int a = 0; a < k; a++)
        for (int b = 0; b < k; b++) g.off[a * k + b] = (a % s * s + b % s) * g.phase + a / s * g.row + b / s;
    return g;
}

static void load(const Geometry *g, const real *plane, real *phases) { /* the padding was zeroed before and stays so */
    if (g->s == 1) {
        for (int y = 0; y < g->h; y++) copy(phases + (y + g->p) * g->row + g->p, plane + y * g->w, g->w);
        return;
    }
    for (int y = 0; y < g->h; y++) {
        int r = y + g->p;
        real *rows = phases + r % g->s * g->s * g->phase + r / g->s * g->row;
        for (int b = 0; b < g->s; b++) {
            int first = ((b - g->p) % g->s + g->s) % g->s; /* the first x whose padded column has this parity */
            real *to = rows + b * g->phase + (first + g->p) / g->s;
            const real *from = plane + y * g->w + first;
            int some = (g->w - first + g->s - 1) / g->s;
            if (g->s == 2) for (int x = 0; x < some; x++) to[x] = from[x * 2];
            else for (int x = 0; x < some; x++) to[x] = from[x * g->s];
        }
    }
}

static void unload(const Geometry *g, const real *phases, real *plane) {
    if (g->s == 1) {
        for (int y = 0; y < g->h; y++) copy(plane + y * g->w, phases + (y + g->p) * g->row + g->p, g->w);
        return;
    }
    for (int y = 0; y < g->h; y++) {
        int r = y + g->p;
        const real *rows = phases + r % g->s * g->s * g->phase + r / g->s * g->row;
        for (int b = 0; b < g->s; b++) {
            int first = ((b - g->p) % g->s + g->s) % g->s;
            const real *from = rows + b * g->phase + (first + g->p) / g->s;
            real *to = plane + y * g->w + first;
            int some = (g->w - first + g->s - 1) / g->s;
            if (g->s == 2) for (int x = 0; x < some; x++) to[x * 2] = from[x];
            else for (int x = 0; x < some; x++) to[x * g->s] = from[x];
        }
    }
}

static inline void shifted_sum(const real *from, const int *off, int sign, const real *kernel, int taps, real *to, int n) {
    for (int i = 0; i < n; i += 4 * LANES) {
        vec a = {0}, b = {0}, c = {0}, d = {0};
        for (int t = 0; t < taps; t++) {
            const real *f = from + sign * off[t] + i;
            real k = kernel[t];
            a += k * AT(f, 0); b += k * AT(f, LANES); c += k * AT(f, 2 * LANES); d += k * AT(f, 3 * LANES);
        }
        AT(to, i) = a; AT(to, i + LANES) = b; AT(to, i + 2 * LANES) = c; AT(to, i + 3 * LANES) = d;
    }
}

/* `taps` sums at once, as many as registers hold: each is a chain, and one chain alone would wait for itself */
static inline __attribute__((always_inline)) void correlate_some(const real *x, const real *d, const int *off, int n, int taps, real *out) {
    vec sum[9];
    for (int t = 0; t < taps; t++) sum[t] = (vec){0};
    for (int i = 0; i < n; i += LANES) {
        vec v = AT(d, i);
        for (int t = 0; t < taps; t++) sum[t] += v * AT(x, off[t] + i);
    }
    for (int t = 0; t < taps; t++) out[t] = total(sum[t]);
}

static void correlate(const Geometry *g, const real *phases, const real *line, real *dk) { /* line: zero between the rows */
    int n = (g->line + LANES - 1) / LANES * LANES, taps = g->k * g->k, t = 0;
    for (; t + 9 <= taps; t += 9) correlate_some(phases, line, g->off + t, n, 9, dk + t);
    if (taps - t >= 7) correlate_some(phases, line, g->off + t, n, 7, dk + t), t += 7;
    if (taps - t >= 4) correlate_some(phases, line, g->off + t, n, 4, dk + t), t += 4;
    for (; t < taps; t++) correlate_some(phases, line, g->off + t, n, 1, dk + t);
}

/* The 2x2 kernel that halves: no windows overlap, so input rows are worked on two at a time as they lie, w is even, `pairs` has room
   for a row. Products of a whole row are added in pairs; backward, the gradient is doubled along the row first. */
static void halve(const Geometry *g, const real *x, const real *k, real *restrict pairs, real *restrict y) {
    for (int r = 0; r < g->oh; r++, x += 2 * g->w, y += g->ow) {
        const real *a = x, *b = x + g->w;
        for (int c = 0; c < g->ow; c++) {
            pairs[2 * c] = k[0] * a[2 * c] + k[2] * b[2 * c];
            pairs[2 * c + 1] = k[1] * a[2 * c + 1] + k[3] * b[2 * c + 1];
        }
        for (int c = 0; c < g->ow; c++) y[c] = pairs[2 * c] + pairs[2 * c + 1];
    }
}

static void halve_back(const Geometry *g, const real *x, const real *d, const real *k, real *restrict pairs, real *restrict dx, real *dk) {
    vec top = {0}, bottom = {0}, k_top, k_bottom;
    for (int i = 0; i < LANES; i++) k_top[i] = k[i % 2], k_bottom[i] = k[2 + i % 2];
    real rest[4] = {0};
    for (int r = 0; r < g->oh; r++, x += 2 * g->w, dx += 2 * g->w, d += g->ow) {
        const real *a = x, *b = x + g->w;
        real *da = dx, *db = dx + g->w;
        for (int c = 0; c < g->ow; c++) pairs[2 * c] = pairs[2 * c + 1] = d[c];
        int i = 0;
        for (; i + LANES <= g->w; i += LANES) {
            vec e = AT(pairs, i);
            top += e * AT(a, i), bottom += e * AT(b, i);
            AT(da, i) = k_top * e, AT(db, i) = k_bottom * e;
        }
        for (; i < g->w; i++) {
            real e = pairs[i];
            rest[i % 2] += e * a[i], rest[2 + i % 2] += e * b[i];
            da[i] = k[i % 2] * e, db[i] = k[2 + i % 2] * e;
        }
    }
    for (int i = 0; i < LANES; i++) rest[i % 2] += top[i], rest[2 + i % 2] += bottom[i];
    memcpy(dk, rest, sizeof rest);
}

/* a plane whose padding in `phases` is zero; `line` has room for ROUND(g->line) + 4 * LANES values */
static void convolve(const Geometry *g, const real *plane, const real *kernel, real *phases, real *line, real *to) {
    load(g, plane, phases);
    shifted_sum(phases, g->off, 1, kernel, g->k * g->k, line, g->line);
    for (int r = 0; r < g->oh; r++) copy(to + r * g->ow, line + r * g->row, g->ow);
}

static int halves(const Geometry *g) { return g->k == 2 && g->s == 2 && g->p == 0 && g->h % 2 == 0 && g->w % 2 == 0; }

static void mix(const real *bank, i64 step, const real *gates, i64 gate_step, int n, int taps, real *kernel) {
    for (int t = 0; t < taps; t++) kernel[t] = gates ? 0 : bank[t];
    for (int i = 0; gates && i < n; i++)
        for (int t = 0; t < taps; t++) kernel[t] += gates[i * gate_step] * bank[i * step + t];
}

/* ---- norm of one channel over all pictures ---- */

static double plane_sum(const real *x, int n) {
    real s = 0;
#pragma omp simd reduction(+ : s)
    for (int i = 0; i < n; i++) s += x[i];
    return s;
}

/* Where the channels of a part lie in the whole: one after the other, or, of several parts, dealt out in turn, one of each. Only the
   first part may be longer than the others; its last channels come last (`mdw.models.layers.shuffle`). */
typedef struct { int parts, part, shortest; } Deal;

static inline int dealt(Deal d, int c) {
    return d.parts < 2 ? c : c < d.shortest ? c * d.parts + d.part : d.shortest * (d.parts - 1) + c;
}

/* the planes of channels c, c + 1, ... side by side: where they lie if they do already, else copied to `room` */
static const real *gathered(const real *whole, Deal d, int c, int many, int n, real *room) {
    if (d.parts < 2) return whole + (i64)c * n;
    for (int j = 0; j < many; j++) copy(room + j * n, whole + (i64)dealt(d, c + j) * n, n);
    return room;
}

/* Small planes of `many` channels are one line, along which a channel's constants are repeated: no loop as short as a plane, and
   sums over pictures are taken position by position, over positions at the end. */
enum { FLAT = 512, LINE = 4096 }; /* a plane's most values, a line's (`together` and LANES channels of `LANED` values stay below) */

static void repeat(const real *values, int many, int n, real *line) {
    for (int j = 0; j < many; j++)
        for (int i = 0; i < n; i++) line[j * n + i] = values[j];
}

/* of `many` channels of n values that follow each other */
static __attribute__((noinline)) void moments(const real *x, i64 stride, int N, int many, int n, real eps, const double *sum, real *mean, real *scale, real *variance) {
    double s[MOST] = {0};
    for (int j = 0; j < many; j++) mean[j] = sum[j] / ((double)N * n);
    if (n <= FLAT) {
        real middle[LINE], square[LINE];
        int count = many * n;
        repeat(mean, many, n, middle);
        memset(square, 0, count * sizeof(real));
        for (int b = 0; b < N; b++) {
            const real *p = x + b * stride;
            for (int i = 0; i < count; i++) square[i] += (p[i] - middle[i]) * (p[i] - middle[i]);
        }
        for (int j = 0; j < many; j++) s[j] = plane_sum(square + j * n, n);
    } else
        for (int b = 0; b < N; b++)
            for (int j = 0; j < many; j++) {
                const real *p = x + b * stride + j * n;
                real q = 0, m = mean[j];
#pragma omp simd reduction(+ : q)
                for (int i = 0; i < n; i++) q += (p[i] - m) * (p[i] - m);
                s[j] += q;
            }
    for (int j = 0; j < many; j++) {
        variance[j] = s[j] / ((double)N * n);
        scale[j] = 1 / sqrt(variance[j] + eps);
    }
}

static void sums(const real *x, i64 stride, int N, int many, int n, double *sum) {
    real line[LINE];
    int count = many * n;
    for (int j = 0; j < many; j++) sum[j] = 0;
    if (n > FLAT) {
        for (int b = 0; b < N; b++)
            for (int j = 0; j < many; j++) sum[j] += plane_sum(x + b * stride + j * n, n);
        return;
    }
    memset(line, 0, count * sizeof(real));
    for (int b = 0; b < N; b++) {
        const real *p = x + b * stride;
        for (int i = 0; i < count; i++) line[i] += p[i];
    }
    for (int j = 0; j < many; j++) sum[j] = plane_sum(line + j * n, n);
}

static void affine(const real *x, real *y, int n, real scale, real shift, int relu) {
    if (relu)
        for (int i = 0; i < n; i++) { real v = x[i] * scale + shift; y[i] = v < 0 ? 0 : v; /* so that NaN stays NaN, here and below */ }
    else
        for (int i = 0; i < n; i++) y[i] = x[i] * scale + shift;
}

/* the norm of `many` channels of every picture, from channel c on, to where they belong in y */
static __attribute__((noinline)) void normalise(const real *x, i64 stride, int N, int c, int many, int n, const real *gamma, const real *beta, const real *mean,
                      const real *scale, int relu, Deal deal, real *y, i64 y_stride) {
    real factor[MOST], shift[MOST], factors[LINE], shifts[LINE], room[LINE];
    for (int j = 0; j < many; j++) factor[j] = gamma[j] * scale[j], shift[j] = beta[j] - mean[j] * factor[j];
    if (n > FLAT) {
        for (int b = 0; b < N; b++)
            for (int j = 0; j < many; j++)
                affine(x + b * stride + j * n, y + b * y_stride + (i64)dealt(deal, c + j) * n, n, factor[j], shift[j], relu);
        return;
    }
    int count = many * n;
    repeat(factor, many, n, factors), repeat(shift, many, n, shifts);
    for (int b = 0; b < N; b++) {
        const real *p = x + b * stride;
        real *whole = y + b * y_stride, *to = deal.parts < 2 ? whole + (i64)c * n : room;
        if (relu)
            for (int i = 0; i < count; i++) { real v = p[i] * factors[i] + shifts[i]; to[i] = v < 0 ? 0 : v; }
        else
            for (int i = 0; i < count; i++) to[i] = p[i] * factors[i] + shifts[i];
        for (int j = 0; deal.parts > 1 && j < many; j++) copy(whole + (i64)dealt(deal, c + j) * n, room + j * n, n);
    }
}

/* What the gradient before a norm is: a * dy + m * x + q, dy zero where the relu was closed. Also the gradients of gamma and beta. */
typedef struct { real a[MOST], m[MOST], q[MOST], along[3][LINE]; } Slopes;

/* dy and y: a picture's channels from the first on, `stride` values apart; x: from channel c on */
static __attribute__((noinline)) void slopes(const real *dy, const real *y, i64 stride, Deal deal, int c, const real *x, i64 x_stride, int N, int many, int n,
                   const real *gamma, const real *mean, const real *scale, int relu, real *dgamma, real *dbeta, Slopes *to) {
    double sum[MOST] = {0}, product[MOST] = {0}, points = (double)N * n;
    if (n <= FLAT) {
        real middle[LINE], s[LINE], q[LINE], d_room[LINE], y_room[LINE];
        int count = many * n;
        repeat(mean, many, n, middle);
        memset(s, 0, count * sizeof(real)), memset(q, 0, count * sizeof(real));
        for (int b = 0; b < N; b++) {
            const real *d = gathered(dy + b * stride, deal, c, many, n, d_room), *v = x + b * x_stride;
            const real *o = relu ? gathered(y + b * stride, deal, c, many, n, y_room) : d;
            if (relu)
                for (int i = 0; i < count; i++) { real e = o[i] <= 0 ? 0 : d[i]; s[i] += e; q[i] += e * (v[i] - middle[i]); }
            else
                for (int i = 0; i < count; i++) { s[i] += d[i]; q[i] += d[i] * (v[i] - middle[i]); }
        }
        for (int j = 0; j < many; j++) sum[j] = plane_sum(s + j * n, n), product[j] = plane_sum(q + j * n, n) * scale[j];
    } else
        for (int b = 0; b < N; b++)
            for (int j = 0; j < many; j++) {
                i64 at = b * stride + (i64)dealt(deal, c + j) * n;
                const real *d = dy + at, *o = y + at, *v = x + b * x_stride + j * n;
                real s = 0, q = 0, middle = mean[j];
                if (relu) {
#pragma omp simd reduction(+ : s, q)
                    for (int i = 0; i < n; i++) { real e = o[i] <= 0 ? 0 : d[i]; s += e; q += e * (v[i] - middle); }
                } else {
#pragma omp simd reduction(+ : s, q)
                    for (int i = 0; i < n; i++) { s += d[i]; q += d[i] * (v[i] - middle); }
                }
                sum[j] += s;
                product[j] += (double)q * scale[j];
            }
    for (int j = 0; j < many; j++) {
        dgamma[j] = product[j];
        dbeta[j] = sum[j];
        to->a[j] = gamma[j] * scale[j];
        to->m[j] = -to->a[j] * scale[j] * product[j] / points;
        to->q[j] = -to->a[j] * sum[j] / points - to->m[j] * mean[j];
    }
    if (n > FLAT) return;
    repeat(to->a, many, n, to->along[0]), repeat(to->m, many, n, to->along[1]), repeat(to->q, many, n, to->along[2]);
}

/* of one picture, the first channel's planes at `to`, the others' behind it */
static __attribute__((noinline)) void norm_gradient(const real *dy, const real *y, Deal deal, int c, const real *x, int many, int n, const Slopes *s, int relu, real *to) {
    if (n > FLAT) {
        for (int j = 0; j < many; j++, x += n, to += n) {
            i64 at = (i64)dealt(deal, c + j) * n;
            const real *d = dy + at, *o = y + at;
            real a = s->a[j], m = s->m[j], q = s->q[j];
            if (relu)
                for (int i = 0; i < n; i++) to[i] = a * (o[i] <= 0 ? 0 : d[i]) + m * x[i] + q;
            else
                for (int i = 0; i < n; i++) to[i] = a * d[i] + m * x[i] + q;
        }
        return;
    }
    real d_room[LINE], y_room[LINE];
    const real *d = gathered(dy, deal, c, many, n, d_room), *o = relu ? gathered(y, deal, c, many, n, y_room) : d;
    const real *a = s->along[0], *m = s->along[1], *q = s->along[2];
    int count = many * n;
    if (relu)
        for (int i = 0; i < count; i++) to[i] = a[i] * (o[i] <= 0 ? 0 : d[i]) + m[i] * x[i] + q[i];
    else
        for (int i = 0; i < count; i++) to[i] = a[i] * d[i] + m[i] * x[i] + q[i];
}

void bn_forward(const real *x, int N, int C, int n, const real *gamma, const real *beta, real eps, real *y, real *mean,
                real *scale, real *variance, int relu) {
    i64 stride = (i64)C * n;
    int group = together(C, n);
#pragma omp parallel for schedule(static)
    for (int c = 0; c < C; c += group) {
        int many = C - c < group ? C - c : group;
        const real *from = x + (i64)c * n;
        double sum[MOST];
        sums(from, stride, N, many, n, sum);
        moments(from, stride, N, many, n, eps, sum, mean + c, scale + c, variance + c);
        normalise(from, stride, N, c, many, n, gamma + c, beta + c, mean + c, scale + c, relu, (Deal){1}, y, stride);
    }
}

void bn_backward(const real *dy, const real *y, const real *x, int N, int C, int n, const real *gamma, const real *mean,
                 const real *scale, real *dx, real *dgamma, real *dbeta, int relu) {
    i64 stride = (i64)C * n;
    int group = together(C, n);
#pragma omp parallel for schedule(static)
    for (int c = 0; c < C; c += group) {
        int many = C - c < group ? C - c : group;
        i64 at = (i64)c * n;
        Slopes s;
        slopes(dy, y, stride, (Deal){1}, c, x + at, stride, N, many, n, gamma + c, mean + c, scale + c, relu, dgamma + c, dbeta + c, &s);
        for (int b = 0; b < N; b++)
            norm_gradient(dy + b * stride, y + b * stride, (Deal){1}, c, x + b * stride + at, many, n, &s, relu, dx + b * stride + at);
    }
}

/* ---- depthwise convolution with its norm ----
   bank (n, C, k, k); gates (N, n, C), or 0 for a bank of one kernel. Without gamma there is no norm: y is the convolution's result.
   With `fixed` only beta is added (a norm folded into the bank by the caller), and only y is written. A stride is that between
   pictures; where the channels are a part of several (`parts`, `part`, `shortest`: see Deal), y and dy begin with the whole's first
   channel, everything else with the part's. */
enum { LANED = 256 }; /* the most values of a plane whose channels go into lanes */

static int laned(int h, int w, int k, int s, int p) {
    return s == 1 && (k == 3 || k == 5 || k == 7 || k == 9) && 2 * p == k - 1 && h * w <= LANED;
}

typedef struct { /* what a thread needs to work with LANES channels at a time */
    int k, h, w, taps, n;
    int *place;                                  /* of each position in a padded plane */
    vec *x, *d, *y, *kernel, *flipped, *dk;      /* padded, padded, not padded, (k, k) each */
    vec *bank, *dbank;                           /* (n, k, k) */
} Lanes;

static Lanes lanes_of(int h, int w, int k, int n) {
    Lanes l = {k, h, w, k * k, n};
    i64 padded = (i64)(h + k - 1) * (w + k - 1);
    l.place = malloc(h * w * sizeof(int));
    for (int i = 0; i < h * w; i++) l.place[i] = (i / w + k / 2) * (w + k - 1) + i % w + k / 2;
    l.x = lanes_room(2 * padded + h * w + (3 + 2 * n) * l.taps);
    l.d = l.x + padded, l.y = l.d + padded, l.kernel = l.y + h * w, l.flipped = l.kernel + l.taps, l.dk = l.flipped + l.taps;
    l.bank = l.dk + l.taps, l.dbank = l.bank + n * l.taps;
    return l;
}

static void lanes_end(Lanes l) { free(l.place), free(l.x); }

static void lanes_mix(const Lanes *l, const real *gates, int C, int many) { /* gates: of this picture, from these channels on */
    for (int t = 0; t < l->taps; t++) l->kernel[t] = gates ? (vec){0} : l->bank[t];
    for (int i = 0; gates && i < l->n; i++) {
        vec gate = some(gates + (i64)i * C, many);
        for (int t = 0; t < l->taps; t++) l->kernel[t] += gate * l->bank[i * l->taps + t];
    }
}

static void lanes_bank(const Lanes *l, const real *bank, int C, int first, int many) {
    for (int i = 0; i < l->n; i++) to_lanes(bank + ((i64)i * C + first) * l->taps, many, l->taps, 0, l->bank + i * l->taps);
}

void depthwise_forward(const real *x, i64 x_stride, int N, int C, int h, int w, int k, int s, int p, const real *bank, const real *gates,
                       int n, const real *gamma, const real *beta, real eps, real *conv, real *y, i64 y_stride, real *mean, real *scale,
                       real *variance, int relu, int fixed, int parts, int part, int shortest) {
    Geometry g = geometry(h, w, k, s, p);
    Deal deal = {parts, part, shortest};
    int taps = k * k, out = g.oh * g.ow, lanes = laned(h, w, k, s, p), group = lanes ? LANES : together(C, out);
    i64 c_stride = (i64)C * out;
#pragma omp parallel
    {
        real *phases = calloc(s * s * g.phase + ROUND(g.line) + 4 * LANES, sizeof(real)), *line = phases + s * s * g.phase;
        real kernel[TAPS];
        Lanes l = {0};
        if (lanes) l = lanes_of(h, w, k, n);
#pragma omp for schedule(static)
        for (int first = 0; first < C; first += group) {
            int many = C - first < group ? C - first : group;
            double sum[MOST] = {0};
            if (lanes) lanes_bank(&l, bank, C, first, many);
            for (int b = 0; b < N; b++) {
                const real *from = x + b * x_stride + (i64)first * h * w, *gate = gates ? gates + (i64)b * n * C + first : 0;
                real *to = gamma ? conv + b * c_stride + (i64)first * out : y + b * y_stride + (i64)first * out;
                if (lanes) {
                    lanes_mix(&l, gate, C, many);
                    to_lanes(from, many, out, l.place, l.x);
                    lanes_convolve(l.x, l.kernel, k, h, w, l.y);
                    from_lanes(l.y, many, out, to);
                    vec v = {0};
                    for (int i = 0; i < out; i++) v += l.y[i];
                    for (int j = 0; j < many; j++) sum[j] += v[j];
                } else
                    for (int j = 0; j < many; j++) {
                        mix(bank + (i64)(first + j) * taps, (i64)C * taps, gate ? gate + j : 0, C, n, taps, kernel);
                        if (halves(&g)) halve(&g, from + (i64)j * h * w, kernel, phases, to + j * out);
                        else convolve(&g, from + (i64)j * h * w, kernel, phases, line, to + j * out);
                        if (gamma) sum[j] += plane_sum(to + j * out, out);
                    }
                for (int j = 0; fixed && j < many; j++) affine(to + j * out, to + j * out, out, 1, beta[first + j], relu);
            }
            if (!gamma) continue;
            const real *from = conv + (i64)first * out;
            moments(from, c_stride, N, many, out, eps, sum, mean + first, scale + first, variance + first);
            normalise(from, c_stride, N, first, many, out, gamma + first, beta + first, mean + first, scale + first, relu, deal, y, y_stride);
        }
        free(phases);
        if (lanes) lanes_end(l);
    }
}

void depthwise_backward(const real *dy, const real *y, i64 y_stride, const real *conv, const real *x, i64 x_stride, int N, int C, int h, int w,
                        int k, int s, int p, const real *bank, const real *gates, int n, const real *gamma, const real *mean,
                        const real *scale, real *dx, i64 dx_stride, real *dbank, real *dgates, real *dgamma, real *dbeta, int relu,
                        int parts, int part, int shortest) {
    Geometry g = geometry(h, w, k, s, p);
    Deal deal = {parts, part, shortest};
    int taps = k * k, out = g.oh * g.ow, area = (h + 2 * p + s - 1) / s * g.row, lanes = laned(h, w, k, s, p);
    int group = lanes ? LANES : together(C, out);
    i64 c_stride = (i64)C * out;
#pragma omp parallel
    {
        /* the line of gradients has a margin of zeros as wide as the largest shift before it, and zeros behind it */
        int margin = ROUND(g.reach), length = margin + ROUND(area) + margin + 8 * LANES;
        real *phases = calloc(2 * s * s * g.phase + length + (i64)group * out, sizeof(real)), *back = phases + s * s * g.phase;
        real *line = back + s * s * g.phase + margin, *d = line - margin + length;
        real kernel[TAPS], dk[TAPS], part_of[TAPS];
        int order[TAPS], off[TAPS], begins[5] = {0}, some_taps = 0; /* the taps, those of a phase together */
        for (int f = 0; f < s * s; f++) {
            for (int t = 0; t < taps; t++)
                if (g.off[t] / g.phase == f) { off[some_taps] = g.off[t] % g.phase; order[some_taps++] = t; }
            begins[f + 1] = some_taps;
        }
        Lanes l = {0};
        if (lanes) l = lanes_of(h, w, k, n);
#pragma omp for schedule(static)
        for (int first = 0; first < C; first += group) {
            int many = C - first < group ? C - first : group;
            Slopes slope;
            if (gamma)
                slopes(dy, y, y_stride, deal, first, conv + (i64)first * out, c_stride, N, many, out, gamma + first, mean + first,
                       scale + first, relu, dgamma + first, dbeta + first, &slope);
            if (lanes) {
                lanes_bank(&l, bank, C, first, many);
                memset(l.dbank, 0, n * taps * sizeof(vec));
            } else
                for (int i = 0; i < n; i++) memset(dbank + ((i64)i * C + first) * taps, 0, many * taps * sizeof(real));
            for (int b = 0; b < N; b++) {
                const real *from = x + b * x_stride + (i64)first * h * w, *gate = gates ? gates + (i64)b * n * C + first : 0;
                const real *grad = dy + b * y_stride + (i64)first * out;
                real *to = dx + b * dx_stride + (i64)first * h * w, *dgate = gates ? dgates + (i64)b * n * C + first : 0;
                if (gamma) {
                    i64 here = b * y_stride;
                    norm_gradient(dy + here, y + here, deal, first, conv + b * c_stride + (i64)first * out, many, out, &slope, relu, d);
                    grad = d;
                }
                if (lanes) {
                    lanes_mix(&l, gate, C, many);
                    for (int t = 0; t < taps; t++) l.flipped[t] = l.kernel[taps - 1 - t];
                    to_lanes(from, many, out, l.place, l.x);
                    to_lanes(grad, many, out, l.place, l.d);
                    lanes_correlate(l.x, l.d, k, h, w, l.dk);
                    lanes_convolve(l.d, l.flipped, k, h, w, l.y);
                    from_lanes(l.y, many, out, to);
                    for (int i = 0; i < n; i++) {
                        vec factor = gate ? some(gate + (i64)i * C, many) : 1 + (vec){0}, dot = {0};
                        for (int t = 0; t < taps; t++) {
                            dot += l.dk[t] * l.bank[i * taps + t];
                            l.dbank[i * taps + t] += factor * l.dk[t];
                        }
                        if (gate) keep(dot, dgate + (i64)i * C, many);
                    }
                    continue;
                }
                for (int j = 0; j < many; j++, grad += out, from += (i64)h * w, to += (i64)h * w) {
                    int c = first + j;
                    mix(bank + (i64)c * taps, (i64)C * taps, gate ? gate + j : 0, C, n, taps, kernel);
                    if (halves(&g)) halve_back(&g, from, grad, kernel, phases, to, dk);
                    else {
                        for (int r = 0; r < g.oh; r++) copy(line + r * g.row, grad + r * g.ow, g.ow);
                        load(&g, from, phases);
                        correlate(&g, phases, line, dk);
                    }
                    for (int i = 0; i < n; i++) {
                        const real *one = bank + ((i64)i * C + c) * taps;
                        real *done = dbank + ((i64)i * C + c) * taps, factor = gate ? gate[(i64)i * C + j] : 1, dot = 0;
                        for (int t = 0; t < taps; t++) { dot += dk[t] * one[t]; done[t] += factor * dk[t]; }
                        if (gate) dgate[(i64)i * C + j] = dot;
                    }
                    if (halves(&g)) continue;
                    for (int t = 0; t < taps; t++) part_of[t] = kernel[order[t]];
                    for (int f = 0; f < s * s; f++) /* each phase gets what its taps carry back */
                        shifted_sum(line, off + begins[f], -1, part_of + begins[f], begins[f + 1] - begins[f], back + f * g.phase, area);
                    unload(&g, back, to);
                }
            }
            for (int i = 0; lanes && i < n; i++) from_lanes(l.dbank + i * taps, many, taps, dbank + ((i64)i * C + first) * taps);
        }
        free(phases);
        if (lanes) lanes_end(l);
    }
}

/* ---- 1x1 convolution: y[b] (out, n) = matrix (out, in) times x[b] (in, n) [+ bias, relu] ----
   A tile of R rows and V vectors stays in registers while the inputs go by. `row` and `column` are the matrix's strides, so that
   its transpose, which carries gradients back, is the same function. */
static inline __attribute__((always_inline)) void tile(const real *m, int row, int column, const real *x, i64 n, int in, real *y, i64 y_step, const real *bias, int relu, int R, int V) {
    vec sum[6][4];
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) sum[r][v] = (bias ? bias[r] : 0) + (vec){0};
    for (int i = 0; i < in; i++) {
        vec line[4];
        for (int v = 0; v < V; v++) line[v] = AT(x, i * n + v * LANES);
        for (int r = 0; r < R; r++) {
            real k = m[r * row + i * column];
            for (int v = 0; v < V; v++) sum[r][v] += k * line[v];
        }
    }
    for (int r = 0; r < R; r++)
        for (int v = 0; v < V; v++) AT(y, r * y_step + v * LANES) = relu ? (vec)((mask)sum[r][v] & ~(sum[r][v] < 0)) : sum[r][v];
}

static inline __attribute__((always_inline)) void tiles(const real *m, int row, int column, const real *x, i64 n, int in, real *y, i64 y_step, const real *bias, int relu, int rows, int V) {
    int r = 0;
    for (; r + 6 <= rows; r += 6)
        tile(m + r * row, row, column, x, n, in, y + r * y_step, y_step, bias ? bias + r : 0, relu, 6, V);
#define REST(R) case R: tile(m + r * row, row, column, x, n, in, y + r * y_step, y_step, bias ? bias + r : 0, relu, R, V); break
    switch (rows - r) { REST(1); REST(2); REST(3); REST(4); REST(5); }
#undef REST
}

void pointwise(const real *m, int row, int column, const real *x, i64 x_stride, int N, int in, int out, int n, const real *bias, real *y,
               int relu) {
    int strip = WIDE * LANES, wide = (n + strip - 1) / strip, parts = N * wide < 8 ? 8 : 1, step = (out + 6 * parts - 1) / (6 * parts) * 6;
#pragma omp parallel
    {
        real *narrow = malloc((in + out) * LANES * sizeof(real)), *result = narrow + in * LANES;
#pragma omp for schedule(static)
        for (i64 t = 0; t < (i64)N * wide * parts; t++) {
            int part = t % parts, at = t / parts % wide * strip, b = t / parts / wide;
            int first = part * step, rows = out - first < step ? out - first : step;
            const real *from = x + b * x_stride + at, *k = m + first * row, *shift = bias ? bias + first : 0;
            real *to = y + ((i64)b * out + first) * n + at;
            int left = n - at < strip ? n - at : strip;
            if (rows <= 0) continue;
            if (left == strip) { tiles(k, row, column, from, n, in, to, n, shift, relu, rows, WIDE); continue; }
            for (; left >= LANES; left -= LANES, from += LANES, to += LANES)
                tiles(k, row, column, from, n, in, to, n, shift, relu, rows, 1);
            if (!left) continue;
            memset(narrow, 0, in * LANES * sizeof(real));
            for (int i = 0; i < in; i++) copy(narrow + i * LANES, from + (i64)i * n, left);
            tiles(k, row, column, narrow, LANES, in, result, LANES, shift, relu, rows, 1);
            for (int r = 0; r < rows; r++) copy(to + (i64)r * n, result + r * LANES, left);
        }
        free(narrow);
    }
}

/* ---- the attention of Eq. 5: planes' means, a filter of K along the channels, one of 3 to each kernel, sigmoid ---- */

void means(const real *x, i64 x_stride, int N, int C, int n, real *mean) {
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < (i64)N * C; i++) mean[i] = plane_sum(x + i / C * x_stride + i % C * n, n) / n;
}

void add_means(real *x, i64 x_stride, int N, int C, int n, const real *d) { /* x + d / n in every place of a plane */
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < (i64)N * C; i++) {
        real *plane = x + i / C * x_stride + i % C * n, more = d[i] / n;
        for (int j = 0; j < n; j++) plane[j] += more;
    }
}

static real sigmoid(real v) { return 1 / (1 + exp(-v)); }

static real tap(const real *v, int i, int C) { return i >= 0 && i < C ? v[i] : 0; }

void line_gates_forward(const real *pooled, int N, int C, const real *along, int K, const real *to, int n, real *mid, real *gates) {
    for (int b = 0; b < N; b++) {
        for (int c = 0; c < C; c++) {
            real s = 0;
            for (int j = 0; j < K; j++) s += along[j] * tap(pooled + (i64)b * C, c + j - K / 2, C);
            mid[(i64)b * C + c] = s;
        }
        for (int i = 0; i < n; i++)
            for (int c = 0; c < C; c++) {
                real s = 0;
                for (int j = 0; j < 3; j++) s += to[i * 3 + j] * tap(mid + (i64)b * C, c + j - 1, C);
                gates[((i64)b * n + i) * C + c] = sigmoid(s);
            }
    }
}

void line_gates_backward(const real *dgates, const real *gates, const real *pooled, const real *mid, int N, int C, const real *along, int K,
                         const real *to, int n, real *dpooled, real *dalong, real *dto) {
    real *dmid = malloc(C * sizeof(real));
    memset(dalong, 0, K * sizeof(real));
    memset(dto, 0, 3 * n * sizeof(real));
    for (int b = 0; b < N; b++) {
        const real *m = mid + (i64)b * C, *p = pooled + (i64)b * C;
        memset(dmid, 0, C * sizeof(real));
        for (int i = 0; i < n; i++)
            for (int c = 0; c < C; c++) {
                i64 at = ((i64)b * n + i) * C + c;
                real d = dgates[at] * gates[at] * (1 - gates[at]);
                for (int j = 0; j < 3; j++) {
                    int e = c + j - 1;
                    if (e < 0 || e >= C) continue;
                    dto[i * 3 + j] += d * m[e];
                    dmid[e] += d * to[i * 3 + j];
                }
            }
        memset(dpooled + (i64)b * C, 0, C * sizeof(real));
        for (int c = 0; c < C; c++)
            for (int j = 0; j < K; j++) {
                int e = c + j - K / 2;
                if (e < 0 || e >= C) continue;
                dalong[j] += dmid[c] * p[e];
                dpooled[(i64)b * C + e] += dmid[c] * along[j];
            }
    }
    free(dmid);
}

/* ---- GCM_C's sum over positions: softmax of a one-channel map, then every channel's weighted sum ---- */

/* scores of n positions from C planes that are `step` apart */
static void scores(const real *x, i64 step, int C, int n, const real *weight, real *s) {
    memset(s, 0, n * sizeof(real));
    for (int c = 0; c < C; c++)
        for (int i = 0; i < n; i++) s[i] += weight[c] * x[c * step + i];
}

static void softmax(real *s, int n) {
    real most = -INFINITY;
    for (int i = 0; i < n; i++) most = s[i] > most ? s[i] : most;
    for (int i = 0; i < n; i++) s[i] = exp(s[i] - most);
    real sum = plane_sum(s, n);
    for (int i = 0; i < n; i++) s[i] /= sum;
}

static real weighted_sum(const real *v, const real *s, int n) {
    real t = 0;
#pragma omp simd reduction(+ : t)
    for (int i = 0; i < n; i++) t += v[i] * s[i];
    return t;
}

void attend_forward(const real *x, i64 x_stride, int N, int C, int n, const real *weight, real *where, real *context) {
#pragma omp parallel for schedule(static)
    for (int b = 0; b < N; b++) {
        real *s = where + (i64)b * n;
        scores(x + b * x_stride, n, C, n, weight, s);
        softmax(s, n);
        for (int c = 0; c < C; c++) context[(i64)b * C + c] = weighted_sum(x + b * x_stride + (i64)c * n, s, n);
    }
}

/* adds to dx (N, C, n); dweight (N, C), to be summed over the pictures */
void attend_backward(const real *dy, const real *dcontext, const real *where, const real *x, i64 x_stride, int N, int C, int n,
                     const real *weight, real *dx, real *dweight) {
#pragma omp parallel
    {
        real *d = malloc(n * sizeof(real));
#pragma omp for schedule(static)
        for (int b = 0; b < N; b++) {
            const real *s = where + (i64)b * n, *dc = dcontext + (i64)b * C;
            scores(x + b * x_stride, n, C, n, dc, d);
            real dot = weighted_sum(d, s, n);
            for (int i = 0; i < n; i++) d[i] = s[i] * (d[i] - dot);
            for (int c = 0; c < C; c++) {
                const real *v = x + b * x_stride + (i64)c * n, *g = dy + ((i64)b * C + c) * n;
                real *o = dx + ((i64)b * C + c) * n, t = 0;
#pragma omp simd reduction(+ : t)
                for (int i = 0; i < n; i++) { t += d[i] * v[i]; o[i] = g[i] + s[i] * dc[c] + weight[c] * d[i]; }
                dweight[(i64)b * C + c] = t;
            }
        }
        free(d);
    }
}

/* ---- halves: split with block means, join with gates ---- */

static void plane_means(const real *p, int h, int w, int f, real *row, real *out) { /* over blocks of f x f */
    if (f == 1) { memcpy(out, p, h * w * sizeof(real)); return; }
    for (int a = 0; a < h / f; a++) {
        const real *top = p + a * f * w;
        for (int c = 0; c < w; c++) row[c] = top[c];
        for (int u = 1; u < f; u++)
            for (int c = 0; c < w; c++) row[c] += top[u * w + c];
        for (int b = 0; b < w / f; b++) {
            real s = 0;
            for (int v = 0; v < f; v++) s += row[b * f + v];
            out[a * (w / f) + b] = s / (f * f);
        }
    }
}

void block_means(const real *x, i64 x_stride, int N, int C, int h, int w, int f, real *y) {
#pragma omp parallel
    {
        real *row = malloc(w * sizeof(real));
#pragma omp for schedule(static)
        for (i64 i = 0; i < (i64)N * C; i++)
            plane_means(x + i / C * x_stride + i % C * h * w, h, w, f, row, y + i * (h / f) * (w / f));
        free(row);
    }
}

/* dx (N, 2C, h, w) from the gradients of both halves (N, C, h, w) and, if there is one, of the second half's block means */
void join_gradient(const real *kept, const real *worked, const real *pooled, int N, int C, int h, int w, int f, real *dx) {
    int n = h * w, oh = f ? h / f : 0, ow = f ? w / f : 0;
#pragma omp parallel
    {
        real *row = malloc(w * sizeof(real));
#pragma omp for schedule(static)
        for (i64 i = 0; i < (i64)N * C; i++) {
            real *to = dx + (i / C * 2 * C + i % C) * n, *second = to + (i64)C * n;
            copy(to, kept + i * n, n);
            if (!f) { copy(second, worked + i * n, n); continue; }
            if (f == 1) {
                for (int j = 0; j < n; j++) second[j] = worked[i * n + j] + pooled[i * n + j];
                continue;
            }
            for (int y = 0; y < h; y++) {
                const real *low = pooled + (i * oh + y / f) * ow, *d = worked + i * n + y * w;
                for (int a = 0; y % f == 0 && a < ow; a++) /* the same for all rows of a block */
                    for (int v = 0; v < f; v++) row[a * f + v] = low[a] / (f * f);
                for (int a = 0; a < w; a++) second[y * w + a] = d[a] + row[a];
            }
        }
        free(row);
    }
}

/* y (N, 2C, n): channel c of `kept` at 2c, channel c of x, times its gate if there are gates, at 2c + 1 */
void interleave_forward(const real *kept, i64 kept_stride, const real *x, const real *gates, int N, int C, int n, real *y) {
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < (i64)N * C; i++) {
        real *to = y + 2 * i * n;
        copy(to, kept + i / C * kept_stride + i % C * n, n);
        real g = gates ? gates[i] : 1;
        for (int j = 0; j < n; j++) to[n + j] = g * x[i * n + j];
    }
}

void interleave_backward(const real *dy, const real *x, const real *gates, int N, int C, int n, real *dkept, real *dx, real *dgates) {
#pragma omp parallel for schedule(static)
    for (i64 i = 0; i < (i64)N * C; i++) {
        const real *d = dy + 2 * i * n;
        copy(dkept + i * n, d, n);
        real g = gates ? gates[i] : 1, s = 0;
#pragma omp simd reduction(+ : s)
        for (int j = 0; j < n; j++) { s += gates ? d[n + j] * x[i * n + j] : 0; dx[i * n + j] = g * d[n + j]; }
        if (gates) dgates[i] = s;
    }
}

/* ---- enlargement: along each axis, value i is low[from] * (1 - t) + low[next] * t ----
   First the low rows are made wide, then the wide rows are blended: the second, larger part is plain vector work. The adjoint
   goes the other way round. */
enum { NEAREST, BILINEAR, BILINEAR_CORNERS };
typedef struct {
    int small, large;
    int times;                  /* 2, 4 or 8 where bilinear enlargement is by that much, corners not aligned; else 0 */
    int *from, *next;           /* (large) */
    int *first, *count;         /* (small): the large places that hear of a small one */
    real *t, *back;            /* (large); (small, most): their weights */
    int most;
} Axis;

static Axis axis(int small, int large, int mode) {
    Axis a = {small, large};
    int times = large / small;
    a.times = mode == BILINEAR && small > 1 && times * small == large && (times == 2 || times == 4 || times == 8) ? times : 0;
    a.most = small > 1 ? 2 * ((large - 1) / (small - 1) + 2) + 2 : large + 2; /* two intervals between aligned corners, the widest */
    a.from = malloc((2 * large + 2 * small) * sizeof(int));
    a.next = a.from + large;
    a.first = a.next + large;
    a.count = a.first + small;
    a.t = malloc((large + small * a.most) * sizeof(real));
    a.back = a.t + large;
    for (int i = 0; i < small; i++) a.count[i] = 0;
    for (int i = 0; i < large; i++) {
        real pos = mode == NEAREST ? i * small / large
                    : mode == BILINEAR ? (i + (real)0.5) * small / large - (real)0.5
                                       : (large > 1 ? (real)i * (small - 1) / (large - 1) : 0);
        if (pos < 0) pos = 0;
        int from = (int)pos < small ? (int)pos : small - 1;
        a.from[i] = from;
        a.next[i] = from + 1 < small ? from + 1 : from;
        a.t[i] = a.next[i] == from ? 0 : pos - from;
        for (int side = 0; side < 2; side++) {
            int to = side ? a.next[i] : from;
            real weight = side ? a.t[i] : 1 - a.t[i];
            if (side && to == from) continue;
            if (!a.count[to]) a.first[to] = i;
            while (a.first[to] + a.count[to] < i) a.back[to * a.most + a.count[to]++] = 0;
            a.back[to * a.most + a.count[to]++] = weight;
        }
    }
    return a;
}

static void forget(Axis a) { free(a.from); free(a.t); }

/* By a whole factor f the weights repeat, and f values at a time are straight code: of the place p behind value i, p < f / 2 lies
   between i - 1 and i. */
static inline __attribute__((always_inline)) void widen_by(const real *from, int n, const real *t, int f, real *to) {
    for (int p = 0; p < f / 2; p++) to[p] = from[0];
    for (int p = f / 2; p < f; p++) to[p] = from[0] + t[p] * (from[1] - from[0]);
    for (int i = 1; i < n - 1; i++) {
        for (int p = 0; p < f / 2; p++) to[i * f + p] = from[i - 1] + t[f + p] * (from[i] - from[i - 1]);
        for (int p = f / 2; p < f; p++) to[i * f + p] = from[i] + t[f + p] * (from[i + 1] - from[i]);
    }
    to += (n - 1) * f;
    for (int p = 0; p < f / 2; p++) to[p] = from[n - 2] + t[f + p] * (from[n - 1] - from[n - 2]);
    for (int p = f / 2; p < f; p++) to[p] = from[n - 1];
}

static void widen(const real *low, const Axis *y, const Axis *x, real *wide) { /* (h, w) -> (h, W) */
    for (int r = 0; r < y->small; r++) {
        const real *from = low + r * x->small;
        real *to = wide + r * x->large;
        switch (x->times) {
            case 2: widen_by(from, x->small, x->t, 2, to); break;
            case 4: widen_by(from, x->small, x->t, 4, to); break;
            case 8: widen_by(from, x->small, x->t, 8, to); break;
            default:
                for (int c = 0; c < x->large; c++) to[c] = from[x->from[c]] + x->t[c] * (from[x->next[c]] - from[x->from[c]]);
        }
    }
}

static inline __attribute__((always_inline)) void narrow_by(const real *from, int n, const real *t, int f, real *to) {
    for (int i = 0; i < n; i++) to[i] = 0;
    for (int i = 0; i < n; i++) {
        real before = 0, here = 0, behind = 0;
        for (int p = 0; p < f / 2; p++) before += (1 - t[f + p]) * from[i * f + p], here += t[f + p] * from[i * f + p];
        for (int p = f / 2; p < f; p++) here += (1 - t[p]) * from[i * f + p], behind += t[p] * from[i * f + p];
        to[i] += here;
        to[i ? i - 1 : 0] += before; /* at an end both shares are the end's */
        to[i + 1 < n ? i + 1 : i] += behind;
    }
}

static void narrow(const real *wide, const Axis *y, const Axis *x, real *low) { /* the adjoint of widen */
    for (int r = 0; x->times && r < y->small; r++) {
        const real *from = wide + r * x->large;
        real *to = low + r * x->small;
        switch (x->times) {
            case 2: narrow_by(from, x->small, x->t, 2, to); break;
            case 4: narrow_by(from, x->small, x->t, 4, to); break;
            case 8: narrow_by(from, x->small, x->t, 8, to); break;
        }
    }
    if (x->times) return;
    for (int r = 0; r < y->small; r++)
        for (int c = 0; c < x->small; c++) {
            const real *from = wide + r * x->large + x->first[c], *weight = x->back + c * x->most;
            real s = 0;
            for (int i = 0; i < x->count[c]; i++) s += from[i] * weight[i];
            low[r * x->small + c] = s;
        }
}

/* a row of `wide`, blended, times a row of x */
static inline void spread_row(const real *restrict x, const real *restrict wide, const Axis *y, int W, int r, real *restrict to) {
    const real *a = wide + y->from[r] * W, *b = wide + y->next[r] * W;
    real t = y->t[r];
    for (int c = 0; c < W; c++) to[c] = x[c] * (a[c] + t * (b[c] - a[c]));
}

static inline void blend_back(const real *d, const Axis *y, int W, int r, real *wide) {
    real *restrict a = wide + y->from[r] * W, *restrict b = wide + y->next[r] * W, t = y->t[r];
    if (t == 0) for (int c = 0; c < W; c++) a[c] += d[c]; /* there may be no next row */
    else for (int c = 0; c < W; c++) { a[c] += (1 - t) * d[c]; b[c] += t * d[c]; }
}

/* y = x * enlarged gates */
void spread_forward(const real *x, i64 x_stride, const real *gates, i64 g_stride, int N, int C, int H, int W, int h, int w, int mode,
                    real *y) {
    Axis ay = axis(h, H, mode), ax = axis(w, W, mode);
#pragma omp parallel
    {
        real *wide = malloc(h * W * sizeof(real));
#pragma omp for schedule(static)
        for (i64 i = 0; i < (i64)N * C; i++) {
            const real *p = x + i / C * x_stride + i % C * H * W;
            if (h == H && w == W) { /* nothing to enlarge */
                const real *gate = gates + i / C * g_stride + i % C * h * w;
                for (int j = 0; j < H * W; j++) y[i * H * W + j] = p[j] * gate[j];
                continue;
            }
            widen(gates + i / C * g_stride + i % C * h * w, &ay, &ax, wide);
            for (int r = 0; r < H; r++) spread_row(p + r * W, wide, &ay, W, r, y + (i * H + r) * W);
        }
        free(wide);
    }
    forget(ay), forget(ax);
}

void spread_backward(const real *dy, const real *x, i64 x_stride, const real *gates, i64 g_stride, int N, int C, int H, int W, int h,
                     int w, int mode, real *dx, real *dgates) {
    Axis ay = axis(h, H, mode), ax = axis(w, W, mode);
#pragma omp parallel
    {
        real *wide = malloc((2 * h + 1) * W * sizeof(real)), *back = wide + h * W, *row = back + h * W;
#pragma omp for schedule(static)
        for (i64 i = 0; i < (i64)N * C; i++) {
            const real *p = x + i / C * x_stride + i % C * H * W, *d = dy + i * H * W;
            if (h == H && w == W) {
                const real *gate = gates + i / C * g_stride + i % C * h * w;
                for (int j = 0; j < H * W; j++) { dx[i * H * W + j] = d[j] * gate[j]; dgates[i * h * w + j] = d[j] * p[j]; }
                continue;
            }
            widen(gates + i / C * g_stride + i % C * h * w, &ay, &ax, wide);
            memset(back, 0, h * W * sizeof(real));
            for (int r = 0; r < H; r++) {
                spread_row(d + r * W, wide, &ay, W, r, dx + (i * H + r) * W);
                for (int c = 0; c < W; c++) row[c] = d[r * W + c] * p[r * W + c];
                blend_back(row, &ay, W, r, back);
            }
            narrow(back, &ay, &ax, dgates + i * h * w);
        }
        free(wide);
    }
    forget(ay), forget(ax);
}

/* the axes of L maps, rows before columns, to size H x W; returns the most rows of a map */
static int axes_of(const int *lh, const int *lw, int L, int H, int W, int mode, Axis *axes) {
    int most = 0;
    for (int j = 0; j < L; j++) {
        axes[2 * j] = axis(lh[j], H, mode), axes[2 * j + 1] = axis(lw[j], W, mode);
        most = lh[j] > most ? lh[j] : most;
    }
    return most;
}

/* a row of the sum below; S and L are known where it is called, so that it is one loop */
static inline __attribute__((always_inline)) void fuse_row(const real *const *same, int S, real times, const real *const *above,
                                                           const real *const *below, const real *t, int L, int W, int relu,
                                                           real *restrict to) {
    for (int c = 0; c < W; c++) {
        real v = times * same[0][c];
        for (int j = 1; j < S; j++) v += same[j][c];
        for (int j = 0; j < L; j++) v += above[j][c] + t[j] * (below[j][c] - above[j][c]);
        to[c] = relu && v < 0 ? 0 : v;
    }
}

/* y = [relu of] times * same[0] + same[1] + ... + enlarged low[0] + ... */
void fuse_forward(const real **same, int S, real times, const real **low, const int *lh, const int *lw, int L, int N, int C, int H,
                  int W, int mode, int relu, real *y) {
    Axis axes[16];
    int most = axes_of(lh, lw, L, H, W, mode, axes);
#pragma omp parallel
    {
        real *wide = malloc(L * most * W * sizeof(real)), t[8];
        const real *full[8], *above[8], *below[8];
#pragma omp for schedule(static)
        for (i64 i = 0; i < (i64)N * C; i++) {
            for (int j = 0; j < L; j++) widen(low[j] + i * lh[j] * lw[j], axes + 2 * j, axes + 2 * j + 1, wide + j * most * W);
            for (int r = 0; r < H; r++) {
                real *to = y + (i * H + r) * W;
                for (int j = 0; j < S; j++) full[j] = same[j] + (i * H + r) * W;
                for (int j = 0; j < L; j++) {
                    const Axis *a = axes + 2 * j;
                    const real *rows = wide + j * most * W;
                    above[j] = rows + a->from[r] * W, below[j] = rows + a->next[r] * W, t[j] = a->t[r];
                }
#define ROW(s, l) case s * 8 + l: fuse_row(full, s, times, above, below, t, l, W, relu, to); break
                switch (S * 8 + L) {
                    ROW(1, 0); ROW(1, 1); ROW(1, 2); ROW(1, 3); ROW(2, 0); ROW(2, 1); ROW(2, 2); ROW(3, 0); ROW(3, 1); ROW(4, 0);
                    default: fuse_row(full, S, times, above, below, t, L, W, relu, to);
                }
#undef ROW
            }
        }
        free(wide);
    }
    for (int j = 0; j < 2 * L; j++) forget(axes[j]);
}

/* d: the gradient before the relu, that of every input of full size but for `times`; dlow: of the enlarged ones */
void fuse_backward(const real *dy, const real *y, real **dlow, const int *lh, const int *lw, int L, int N, int C, int H, int W, int mode,
                   int relu, real *d) {
    Axis axes[16];
    int most = axes_of(lh, lw, L, H, W, mode, axes);
#pragma omp parallel
    {
        real *wide = malloc((L * most + 1) * W * sizeof(real));
#pragma omp for schedule(static)
        for (i64 i = 0; i < (i64)N * C; i++) {
            memset(wide, 0, L * most * W * sizeof(real));
            for (int r = 0; r < H; r++) {
                i64 at = (i * H + r) * W;
                const real *from = dy + at;
                if (relu) {
                    for (int c = 0; c < W; c++) d[at + c] = y[at + c] <= 0 ? 0 : dy[at + c];
                    from = d + at;
                }
                for (int j = 0; j < L; j++) blend_back(from, axes + 2 * j, W, r, wide + j * most * W);
            }
            for (int j = 0; j < L; j++) narrow(wide + j * most * W, axes + 2 * j, axes + 2 * j + 1, dlow[j] + i * lh[j] * lw[j]);
        }
        free(wide);
    }
    for (int j = 0; j < 2 * L; j++) forget(axes[j]);
}
