/* The parts of the sorting model's loss and gradient that are no matrix products, for one core.

`compiled.py` calls these functions; `plain.py` has the same in torch, and the equations. Tensors
are contiguous float32 in the layouts of these modules, and indices are int64. Symbols: G lanes, B
lists, L list length, K = 2L keys, H heads, R query rows, T = V + K columns of a table, D residual
width, d head width, V vocabulary. A pointer to factors of layer norm is NULL where there is none.

An answer sees the keys up to its own position, so only these are computed. Loops are over vectors
of W numbers; `suits` says whether this processor has them. */

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __x86_64__
#define WIDE __attribute__((target("avx2,fma")))
#define SUITS (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#else
#define WIDE
#define SUITS 1
#endif
#define INLINE static inline __attribute__((always_inline))
#if defined(__x86_64__)
#define W 8 /* numbers in a vector; on a processor with narrower ones torch is faster */
#else
#define W 4
#endif
#define PADDED(n) (((n) + W - 1) / W * W)

typedef float vec __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef int64_t i64;

#define AT(p) (*(vec *)(p))
#define SEEN(p) (*(const vec *)(p))

static const float LOWEST = -1e30f;

int suits(void) { return SUITS; }

/* ---- vectors ---- */

INLINE float sum_of(const vec *v) {
    const float *x = (const float *)v;
    float low = 0, high = 0;
    for (int k = 0; k < W; k += 2) low += x[k], high += x[k + 1];
    return low + high;
}

INLINE float max_of(const vec *v) {
    const float *x = (const float *)v;
    float low = x[0], high = x[1];
    for (int k = 2; k < W; k += 2) {
        low = x[k] > low ? x[k] : low;
        high = x[k + 1] > high ? x[k + 1] : high;
    }
    return low > high ? low : high;
}

/* The larger of each pair. */
INLINE void raise_to(vec *a, const vec *b) {
    const ivec less = *a < *b;
    *a = (vec)((less & (ivec)*b) | (~less & (ivec)*a));
}

/* exp(x) for x <= 0, to 2 units in the last place; exp(-87) below. The polynomial of Cephes. */
INLINE void exp_of(vec *v) {
    const vec lowest = *v - *v - 87.0f;
    vec x = *v;
    raise_to(&x, &lowest);
    ivec k = __builtin_convertvector(x * 1.44269504f - 0.5f, ivec); /* towards 0: to the nearest */
    vec n = __builtin_convertvector(k, vec);
    x = x - n * 0.693359375f;
    x = x + n * 2.12194440e-4f;
    vec y = x * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * x + 8.3334519073e-3f;
    y = y * x + 4.1665795894e-2f;
    y = y * x + 1.6666665459e-1f;
    y = y * x + 5.0000001201e-1f;
    y = y * (x * x) + x + 1.0f;
    *v = y * (vec)((k + 127) << 23);
}

typedef struct {
    float top, total;
} Sum; /* Σ exp = total · exp(top) */

/* Softmax of padded x, whose padding is LOWEST. */
INLINE Sum softmax(float *x, i64 padded) {
    vec most = AT(x), total = most - most;
    for (i64 k = W; k < padded; k += W) raise_to(&most, &AT(x + k));
    const float top = max_of(&most);
    for (i64 k = 0; k < padded; k += W) {
        vec e = AT(x + k) - top;
        exp_of(&e);
        AT(x + k) = e;
        total += e;
    }
    const Sum sum = {top, sum_of(&total)};
    for (i64 k = 0; k < padded; k += W) AT(x + k) *= 1.0f / sum.total;
    return sum;
}

INLINE float dot(const float *a, const float *b, i64 n) {
    vec sum = {0};
    i64 c = 0;
    for (; c + W <= n; c += W) sum += SEEN(a + c) * SEEN(b + c);
    float rest = 0;
    for (; c < n; c++) rest += a[c] * b[c];
    return sum_of(&sum) + rest;
}

/* out += w x */
INLINE void add(float *out, float w, const float *x, i64 n) {
    i64 c = 0;
    for (; c + W <= n; c += W) AT(out + c) += w * SEEN(x + c);
    for (; c < n; c++) out[c] += w * x[c];
}

/* ---- attention ---- */

/* A list as `at` (K), its tokens as rows of a table; r (K), the factor of each key; and x (K, D),
the sum of the rows of its token and of its position. */
INLINE void keys_of(const i64 *tokens, const float *factors, const float *table, i64 K, i64 V,
                    i64 D, i64 *at, float *r, float *x) {
    for (i64 j = 0; j < K; j++) {
        const float *token = table + tokens[j] * D, *position = table + (V + j) * D;
        at[j] = tokens[j];
        r[j] = factors ? factors[j * V + at[j]] : 1.0f;
        for (i64 c = 0; c < D; c++) x[j * D + c] = token[c] + position[c];
    }
}

/* out_i += Σ_j w_ij x_j for one or two rows, and `blocks` vectors of their columns. */
INLINE void mix_block(float *out, const float *x, const float *w, i64 n, i64 K, i64 D,
                      const int rows, const int blocks) {
    vec sum[2][6];
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < blocks; k++) sum[i][k] = SEEN(out + i * D + k * W);
    for (i64 j = 0; j < n; j++)
        for (int i = 0; i < rows; i++)
            for (int k = 0; k < blocks; k++) sum[i][k] += w[i * K + j] * SEEN(x + j * D + k * W);
    for (int i = 0; i < rows; i++)
        for (int k = 0; k < blocks; k++) AT(out + i * D + k * W) = sum[i][k];
}

INLINE void mix(float *out, const float *x, const float *w, i64 n, i64 K, i64 D, const int rows) {
    i64 c = 0;
    for (; c + 6 * W <= D; c += 6 * W) mix_block(out + c, x + c, w, n, K, D, rows, 6);
    for (; c + W <= D; c += W) mix_block(out + c, x + c, w, n, K, D, rows, 1);
    for (; c < D; c++)
        for (int i = 0; i < rows; i++)
            for (i64 j = 0; j < n; j++) out[i * D + c] += w[i * K + j] * x[j * D + c];
}

/* Scores, pattern, and what the heads write, which is added to resid (G, B·L, D).

products (H, G, R, T), output (H, G, T+1, D), r (·, K, V), tokens (G, B, K) with strides, answers
(G, B, L) or NULL; scores and pattern (H, G, B, L, K), undefined where a key is not seen. */
WIDE void attend(i64 H, i64 G, i64 B, i64 L, i64 R, i64 T, i64 D, const float *products,
                          const float *output, const float *r, i64 r_lane, const i64 *tokens,
                          i64 tokens_lane, i64 tokens_list, const i64 *answers, float *scores,
                          float *pattern, float *resid) {
    const i64 K = 2 * L, V = T - K, wide = PADDED(K);
    i64 at[K];
    float r_key[K], x[K * D], w[L * wide];
    for (i64 h = 0; h < H; h++)
        for (i64 g = 0; g < G; g++)
            for (i64 b = 0; b < B; b++) {
                keys_of(tokens + g * tokens_lane + b * tokens_list, r ? r + g * r_lane : r,
                        output + (h * G + g) * (T + 1) * D, K, V, D, at, r_key, x);
                const i64 list = (g * B + b) * L, first = (h * G * B * L + list) * K;
                for (i64 i = 0; i < L; i++) {
                    const i64 n = L + i + 1, row = answers ? answers[list + i] : b * L + i;
                    const float *from = products + ((h * G + g) * R + row) * T;
                    float *s = scores + first + i * K, *z = w + i * wide;
                    for (i64 j = 0; j < n; j++) {
                        s[j] = from[at[j]] + from[V + j];
                        z[j] = s[j] * r_key[j];
                    }
                    for (i64 j = n; j < wide; j++) z[j] = LOWEST;
                }
                for (i64 i = 0; i < L; i++) softmax(w + i * wide, wide);
                for (i64 i = 0; i < L; i++) {
                    float *p = pattern + first + i * K, *z = w + i * wide;
                    for (i64 j = 0; j <= L + i; j++) {
                        p[j] = z[j];
                        z[j] *= r_key[j];
                    }
                    for (i64 j = L + i + 1; j < K; j++) z[j] = 0;
                }
                float *out = resid + list * D;
                for (i64 i = 0; i + 2 <= L; i += 2)
                    mix(out + i * D, x, w + i * wide, L + i + 2, wide, D, 2);
                if (L % 2) mix(out + (L - 1) * D, x, w + (L - 1) * wide, K, wide, D, 1);
            }
}

/* dw_ij = y_i · x_j for four j */
INLINE void dots(float *dw, const float *y, const float *x, i64 D) {
    vec sum[4] = {{0}};
    i64 c = 0;
    for (; c + W <= D; c += W)
        for (int j = 0; j < 4; j++) sum[j] += SEEN(y + c) * SEEN(x + j * D + c);
    for (int j = 0; j < 4; j++) {
        dw[j] = sum_of(&sum[j]);
        for (i64 k = c; k < D; k++) dw[j] += y[k] * x[j * D + k];
    }
}

/* token_j and position_j += Σ_i w_ij y_i for two keys j, and `blocks` vectors of their columns. */
INLINE void spread_block(float *const token[2], float *position, const float *y, const float *w,
                         i64 rows, i64 K, i64 D, i64 c, const int blocks) {
    vec sum[2][6] = {{{0}}};
    for (i64 i = 0; i < rows; i++)
        for (int j = 0; j < 2; j++)
            for (int k = 0; k < blocks; k++)
                sum[j][k] += w[i * K + j] * SEEN(y + i * D + c + k * W);
    for (int j = 0; j < 2; j++)
        for (int k = 0; k < blocks; k++) {
            AT(token[j] + c + k * W) += sum[j][k];
            AT(position + j * D + c + k * W) += sum[j][k];
        }
}

INLINE void spread(float *const token[2], float *position, const float *y, const float *w, i64 rows,
                   i64 K, i64 D) {
    i64 c = 0;
    for (; c + 6 * W <= D; c += 6 * W) spread_block(token, position, y, w, rows, K, D, c, 6);
    for (; c + W <= D; c += W) spread_block(token, position, y, w, rows, K, D, c, 1);
    for (; c < D; c++)
        for (int j = 0; j < 2; j++) {
            float sum = 0;
            for (i64 i = 0; i < rows; i++) sum += w[i * K + j] * y[i * D + c];
            token[j][c] += sum;
            position[j * D + c] += sum;
        }
}

/* Gradients of products (H, G, R, T), of all but the last row of output (H, G, T+1, D), and of r.

They are added to dproducts, doutput and dr (G, K, V), NULL if it is not wanted. dresid is (G, B·L,
D). */
WIDE void attend_backward(i64 H, i64 G, i64 B, i64 L, i64 R, i64 T, i64 D,
                                   const float *dresid, const float *output, const float *r,
                                   i64 r_lane, const i64 *tokens, i64 tokens_lane, i64 tokens_list,
                                   const i64 *answers, const float *scores, const float *pattern,
                                   float *dproducts, float *doutput, float *dr) {
    const i64 K = 2 * L, V = T - K;
    i64 at[K];
    float r_key[K], dr_key[K], x[(K + 3) * D], w[L * K], dw[K + 3];
    memset(x + K * D, 0, 3 * D * sizeof(float));
    for (i64 h = 0; h < H; h++)
        for (i64 g = 0; g < G; g++)
            for (i64 b = 0; b < B; b++) {
                const i64 tables = (h * G + g) * (T + 1) * D;
                keys_of(tokens + g * tokens_lane + b * tokens_list, r ? r + g * r_lane : r,
                        output + tables, K, V, D, at, r_key, x);
                const i64 list = (g * B + b) * L, first = (h * G * B * L + list) * K;
                const float *grad = dresid + list * D;
                for (i64 j = 0; j < K; j++) dr_key[j] = 0;
                for (i64 i = 0; i < L; i++) {
                    const i64 n = L + i + 1, row = answers ? answers[list + i] : b * L + i;
                    const float *s = scores + first + i * K, *p = pattern + first + i * K;
                    float *to = dproducts + ((h * G + g) * R + row) * T, along = 0;
                    for (i64 j = 0; j < n; j += 4) dots(dw + j, grad + i * D, x + j * D, D);
                    for (i64 j = 0; j < n; j++) {
                        w[i * K + j] = p[j] * r_key[j];
                        along += w[i * K + j] * dw[j];
                    }
                    for (i64 j = n; j < K; j++) w[i * K + j] = 0;
                    for (i64 j = 0; j < n; j++) {
                        const float ds = p[j] * (dw[j] * r_key[j] - along);
                        dr_key[j] += dw[j] * p[j] + ds * s[j];
                        to[at[j]] += ds * r_key[j];
                        to[V + j] += ds * r_key[j];
                    }
                }
                for (i64 j = 0; j < K; j += 2) {
                    const i64 i = j > L ? j - L : 0; /* the first answer that sees key j */
                    float *const token[2] = {doutput + tables + at[j] * D,
                                             doutput + tables + at[j + 1] * D};
                    spread(token, doutput + tables + (V + j) * D, grad + i * D, w + i * K + j,
                           L - i, K, D);
                }
                if (dr)
                    for (i64 j = 0; j < K; j++) dr[(g * K + j) * V + at[j]] += dr_key[j];
            }
}

/* Each query row before its r and bias, and after: sums and q (H, G, R, d), from table (H, G, T+1,
d).

tokens (G, R) with the distance of its lanes, positions (R). */
WIDE void queries(i64 H, i64 G, i64 L, i64 R, i64 T, i64 d, const float *table,
                           const float *r, i64 r_lane, const i64 *tokens, i64 tokens_lane,
                           const i64 *positions, float *sums, float *q) {
    const i64 V = T - 2 * L;
    for (i64 h = 0; h < H; h++)
        for (i64 g = 0; g < G; g++) {
            const float *rows = table + (h * G + g) * (T + 1) * d, *bias = rows + T * d;
            for (i64 row = 0; row < R; row++) {
                const i64 token = tokens[g * tokens_lane + row], position = L + positions[row];
                const float *x = rows + token * d, *y = rows + (V + position) * d;
                const float factor = r ? r[g * r_lane + position * V + token] : 1.0f;
                float *s = sums + ((h * G + g) * R + row) * d,
                      *out = q + ((h * G + g) * R + row) * d;
                for (i64 c = 0; c < d; c++) {
                    s[c] = x[c] + y[c];
                    out[c] = bias[c] + factor * s[c];
                }
            }
        }
}

/* Writes the gradient of the table of queries; adds that of r to dr (G, K, V), unless NULL. */
WIDE void queries_backward(i64 H, i64 G, i64 L, i64 R, i64 T, i64 d, const float *dq,
                                    const float *sums, const float *r, i64 r_lane,
                                    const i64 *tokens, i64 tokens_lane, const i64 *positions,
                                    float *dtable, float *dr) {
    const i64 V = T - 2 * L;
    for (i64 h = 0; h < H; h++)
        for (i64 g = 0; g < G; g++) {
            float *rows = dtable + (h * G + g) * (T + 1) * d;
            memset(rows, 0, (T + 1) * d * sizeof(float));
            for (i64 row = 0; row < R; row++) {
                const i64 token = tokens[g * tokens_lane + row], position = L + positions[row];
                const float *grad = dq + ((h * G + g) * R + row) * d;
                const float *s = sums + ((h * G + g) * R + row) * d;
                const i64 pair = position * V + token;
                const float factor = r ? r[g * r_lane + pair] : 1.0f;
                add(rows + token * d, factor, grad, d);
                add(rows + (V + position) * d, factor, grad, d);
                add(rows + T * d, 1.0f, grad, d);
                if (dr) dr[g * 2 * L * V + pair] += dot(grad, s, d);
            }
        }
}

/* ---- the residual stream ---- */

/* resid (G, B·L, D): each answer's token and position in centred (G, T, D), and constant (G, D). */
WIDE void direct(i64 G, i64 B, i64 L, i64 T, i64 D, const float *centred,
                          const float *constant, const i64 *tokens, i64 tokens_lane,
                          i64 tokens_list, float *resid) {
    for (i64 g = 0; g < G; g++) {
        const float *table = centred + g * T * D, *shift = constant + g * D;
        for (i64 b = 0; b < B; b++)
            for (i64 i = 0; i < L; i++) {
                const float *x = table + tokens[g * tokens_lane + b * tokens_list + L + i] * D;
                const float *y = table + (T - L + i) * D;
                float *out = resid + ((g * B + b) * L + i) * D;
                for (i64 c = 0; c < D; c++) out[c] = x[c] + y[c] + shift[c];
            }
    }
}

/* Writes the gradient of centred. */
WIDE void direct_backward(i64 G, i64 B, i64 L, i64 T, i64 D, const float *dresid,
                                   const i64 *tokens, i64 tokens_lane, i64 tokens_list,
                                   float *dcentred) {
    memset(dcentred, 0, G * T * D * sizeof(float));
    for (i64 g = 0; g < G; g++)
        for (i64 b = 0; b < B; b++)
            for (i64 i = 0; i < L; i++) {
                const i64 token = tokens[g * tokens_lane + b * tokens_list + L + i];
                const float *grad = dresid + ((g * B + b) * L + i) * D;
                add(dcentred + (g * T + token) * D, 1.0f, grad, D);
                add(dcentred + (g * T + T - L + i) * D, 1.0f, grad, D);
            }
}

/* ---- the loss ---- */

/* r (G, N) of the rows of a centred residual stream (G·N, D). */
WIDE void norms(i64 rows, i64 D, float eps, const float *resid, float *r) {
    for (i64 row = 0; row < rows; row++)
        r[row] = 1.0f / sqrtf(dot(resid + row * D, resid + row * D, D) / D + eps);
}

/* Losses (G, N) of the logits bias + r product; of their mean over N, the gradients.

product (G, N, V) is overwritten with its gradient; dbias (G, V) and pull (G, N) are written. If
dbias is NULL only the losses are. bias (·, V) with a stride of lanes. */
WIDE void cross_entropy(i64 G, i64 N, i64 V, i64 D, float *product, const float *r,
                                 const float *bias, i64 bias_lane, const i64 *targets,
                                 float *losses, float *dbias, float *pull) {
    const i64 width = PADDED(V);
    float x[width], p[width], shift[width], total[width];
    for (i64 g = 0; g < G; g++) {
        for (i64 v = 0; v < width; v++) {
            shift[v] = v < V ? bias[g * bias_lane + v] : LOWEST;
            total[v] = x[v] = 0;
        }
        for (i64 n = g * N; n < (g + 1) * N; n++) {
            const float factor = r ? r[n] : 1.0f;
            memcpy(x, product + n * V, V * sizeof(float));
            for (i64 v = 0; v < width; v += W) AT(p + v) = AT(shift + v) + factor * AT(x + v);
            const float logit = p[targets[n]];
            const Sum sum = softmax(p, width);
            losses[n] = (sum.top - logit) + logf(sum.total); /* both small if the answer is right */
            if (!dbias) continue;
            p[targets[n]] -= 1.0f;
            for (i64 v = 0; v < width; v += W) AT(total + v) += AT(p + v);
            if (r) pull[n] = dot(x, p, width) * factor * factor * factor / (-(float)N * D);
            for (i64 v = 0; v < width; v += W) AT(x + v) = AT(p + v) * (factor / N);
            memcpy(product + n * V, x, V * sizeof(float));
        }
        if (dbias)
            for (i64 v = 0; v < V; v++) dbias[g * V + v] = total[v] / N;
    }
}
