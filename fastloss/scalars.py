"""Every pointwise loss: its value and its slope (the derivative with respect to the prediction), as scalar arithmetic.

The functions are plain Python without decorators; each backend compiles this same text with elementary functions of its
own.  So that it can, they keep to a dialect, which `_dialect.py` describes, and checks before any of them compiles.

Arguments are `x` the prediction, `y` the target, then a loss's third operand if it has one, then its parameters, all of
one floating type.  Weights and means are the callers' business.
"""

from math import exp, expm1, log, log1p, sqrt, tanh

# --- squared, absolute, and what lies between --------------------------------------------------------------------------


def mse(x, y):
    d = x - y
    return d * d


def mse_slope(x, y):
    T = type(x)
    return T(2.0) * (x - y)


def l1(x, y):
    return abs(x - y)


def sign(d):
    """-1, 0 or 1; NaN for NaN."""
    T = type(d)
    if d > T(0.0):
        return T(1.0)
    if d < T(0.0):
        return T(-1.0)
    return d


def l1_slope(x, y):
    return sign(x - y)


def huber(x, y, delta):
    """d^2/2 up to |d| = delta, a line of slope delta beyond (Huber 1964)."""
    T = type(x)
    a = abs(x - y)
    return T(0.5) * a * a if a <= delta else delta * (a - T(0.5) * delta)


def huber_slope(x, y, delta):
    d = x - y
    return d if abs(d) <= delta else delta * sign(d)


def smooth_l1(x, y, beta):
    """Huber's loss over beta; beta = 0 is the absolute error (Girshick 2015)."""
    T = type(x)
    a = abs(x - y)
    return T(0.5) * a * (a / beta) if a < beta else a - T(0.5) * beta


def smooth_l1_slope(x, y, beta):
    d = x - y
    return d / beta if abs(d) < beta else sign(d)


def log_cosh(x, y):
    """log(cosh(d)), without the cancellation near 0 or the overflow far from it: |d| - log 2 + log1p(exp(-2 |d|)) from |d| = 1 on."""
    T = type(x)
    a = abs(x - y)
    far = (a - T(0.6931471805599453)) + softplus_tail(a + a)
    return log_cosh_near(a) if a < T(1.0) else far


def log_cosh_near(a):
    """log(cosh(a)) for |a| <= 1: a^2 times a polynomial in a^2, minimax in the relative error, which is 2^-60."""
    T = type(a)
    t = a * a
    p = T(-2.292805546057893e-09)
    p = p * t + T(2.4391272649403436e-08)
    p = p * t + T(-1.3109864092045516e-07)
    p = p * t + T(4.932932975602008e-07)
    p = p * t + T(-1.529302273552446e-06)
    p = p * t + T(4.332438889477258e-06)
    p = p * t + T(-1.1919374055585406e-05)
    p = p * t + T(3.2765227023908335e-05)
    p = p * t + T(-9.098572188897457e-05)
    p = p * t + T(0.00025657978637719963)
    p = p * t + T(-0.0007386028511177477)
    p = p * t + T(0.0021869488435474742)
    p = p * t + T(-0.006746031745471422)
    p = p * t + T(0.02222222222220581)
    p = p * t + T(-0.08333333333333315)
    p = p * t + T(0.5)
    return t * p


def log_cosh_slope(x, y):
    return tanh(x - y)


def quantile(x, y, low, high):
    """The pinball loss: `low` for each unit the prediction is too low, `high` for each it is too high (Koenker 1978).

    They are q and 1 - q; both are given, as 1 - q would cancel in float32.
    """
    T = type(x)
    d = y - x
    return low * d if d >= T(0.0) else -high * d


def quantile_slope(x, y, low, high):
    T = type(x)
    d = y - x
    if d > T(0.0):
        return -low
    if d < T(0.0):
        return high
    return d


def mse_scaled(x, y, scale):
    """The square of scale (x - y), with a power of two as scale: for sums of squares that are too large or too small by themselves."""
    d = scaled_difference(x, y, scale)
    return d * d


def scaled_difference(x, y, scale):
    """scale (x - y), where neither the difference overflows nor, for a large scale, its operands."""
    T = type(x)
    return scale * x - scale * y if scale < T(1.0) else scale * (x - y)


def mse_scaled_slope(x, y, scale):
    T = type(x)
    return T(2.0) * scale * scaled_difference(x, y, scale)


def charbonnier(x, y, eps):
    """sqrt(d^2 + eps^2) - eps (Charbonnier et al. 1994): d^2 over the sum of the two, each divided by the larger one of |d| and eps.

    What the difference lacks for its rounding, times the slope, is added; of that a few digits suffice.
    """
    T = type(x)
    d = x - y
    a = abs(d)
    ratio = min(a, eps) / max(a, eps)
    square = ratio * ratio
    root = sqrt(T(1.0) + square)
    share = ratio if a < eps else T(1.0)
    value = a * share / (root + (T(1.0) if a < eps else ratio))
    low = difference_low(x, y, d) * share * inverse_root_near(square)
    return value + (low if d >= T(0.0) else -low) if low == low else value


def inverse_root_near(t):
    """1 / sqrt(1 + t) for t in [0, 1], to 0.4 %."""
    T = type(t)
    return T(0.9968124) + t * (T(-0.43513926) + t * T(0.14768763))


def difference_low(x, y, d):
    """x - y - d, where d is the difference rounded (Moller 1965); NaN where that is not finite."""
    back = d - x
    return (x - (d - back)) - (y + back)


def charbonnier_slope(x, y, eps):
    """d / sqrt(d^2 + eps^2)."""
    T = type(x)
    scale = halving(x, y)
    d = scale * x - scale * y
    least = eps if scale == T(1.0) else max(scale * eps, T(1e-37))  # which is not 0, and far below what d can be
    a = abs(d)
    ratio = min(a, least) / max(a, least)
    share = ratio if a < least else T(1.0)
    return sign(d) * share / sqrt(T(1.0) + ratio * ratio)


# --- relative errors ------------------------------------------------------------------------------------------------


def halving(x, y):
    """A half where x or y is so large that their difference or sum might overflow, 1 elsewhere."""
    T = type(x)
    return T(0.5) if abs(x) > T(1e38) or abs(y) > T(1e38) else T(1.0)


def mape(x, y, eps):
    """|d| / |y|, with |y| at least eps."""
    scale = halving(x, y)
    return abs(scale * x - scale * y) / (scale * max(abs(y), eps))


def mape_slope(x, y, eps):
    return sign(x - y) / max(abs(y), eps)


def smape(x, y, eps):
    """2 |d| / (|x| + |y|), with the sum at least eps."""
    T = type(x)
    scale = halving(x, y)
    both = max(scale * abs(x) + scale * abs(y), scale * eps)
    return T(2.0) * (abs(scale * x - scale * y) / both)


def smape_slope(x, y, eps):
    """Where x and y have different signs the loss is 2; where x is 0 the slope is that of |d| alone, as PyTorch's autograd says."""
    T = type(x)
    scale = halving(x, y)
    both = scale * abs(x) + scale * abs(y)
    alone = T(2.0) * scale * sign(x - y) / max(both, scale * eps)
    same = (x > T(0.0) and y > T(0.0)) or (x < T(0.0) and y < T(0.0))
    together = alone * (T(2.0) * scale * abs(y) / both) if same else alone * T(0.0)
    return alone if both < scale * eps or x == T(0.0) else together


# --- margins: targets are -1 or 1 -----------------------------------------------------------------------------------


def margin_slope(rest, slope):
    """`slope` where `rest`, what is left of a margin, is not negative, as PyTorch's autograd has it at 0; 0 elsewhere, NaN for NaN."""
    T = type(rest)
    if rest >= T(0.0):
        return slope
    return T(0.0) if rest < T(0.0) else rest


def hinge(x, y):
    """max(1 - y x, 0)."""
    T = type(x)
    return max(T(1.0) - y * x, T(0.0))


def hinge_slope(x, y):
    T = type(x)
    return margin_slope(T(1.0) - y * x, -y)


def squared_hinge(x, y):
    rest = hinge(x, y)
    return rest * rest


def squared_hinge_slope(x, y):
    T = type(x)
    rest = hinge(x, y)
    return T(-2.0) * y * rest if rest != T(0.0) else T(0.0)


def soft_margin(x, y):
    """log(1 + exp(-y x))."""
    return softplus_added(abs(y * x), soft_margin_linear(x, y))


def soft_margin_linear(x, y):
    T = type(x)
    return max(-y * x, T(0.0))


def soft_margin_odds(x, y):
    return decay(abs(y * x))


def soft_margin_slope(x, y):
    """-y sigmoid(-y x)."""
    T = type(x)
    t = y * x
    e = decay(abs(t))
    return -y * ((e if t >= T(0.0) else T(1.0)) / (T(1.0) + e))


def hinge_embedding(x, y, margin):
    """x for y = 1, max(margin - x, 0) for y = -1; the sum of both for other targets, as in PyTorch."""
    T = type(x)
    rest = max(margin - x, T(0.0))
    value = (rest if y != T(1.0) else T(0.0)) + (x if y != T(-1.0) else T(0.0))
    return value if y == y else y


def hinge_embedding_slope(x, y, margin):
    T = type(x)
    rest = margin_slope(margin - x, T(-1.0))
    slope = (rest if y != T(1.0) else T(0.0)) + (T(1.0) if y != T(-1.0) else T(0.0))
    return slope if y == y and x == x else x + y


def margin_ranking(x, other, y, margin):
    """max(margin - y (x - other), 0)."""
    T = type(x)
    return max(margin - y * (x - other), T(0.0))


def margin_ranking_slope(x, other, y, margin):
    return margin_slope(margin - y * (x - other), -y)


# --- logarithmic ----------------------------------------------------------------------------------------------------


def msle(x, y):
    """(log(1 + x) - log(1 + y))^2."""
    T = type(x)
    low = min(x, y)
    d = log_ratio(max(x, y), low)
    return d * d if low >= T(-1.0) else x * T(float("nan"))


def log_ratio(high, low):
    """log((1 + high) / (1 + low)) for high >= low: nothing cancels, neither where they are nearly equal nor where they are far apart.

    Backends may have a way with fewer roundings.
    """
    T = type(high)
    return log1p((high - low) / (T(1.0) + low))


def msle_slope(x, y):
    T = type(x)
    low = min(x, y)
    d = log_ratio(max(x, y), low)
    slope = T(2.0) * (d if x >= y else -d) / (T(1.0) + x)
    return slope if low >= T(-1.0) else x * T(float("nan"))


def xlogy(x, y):
    """x log y, and 0 where x = 0 whatever y, NaN excepted."""
    T = type(x)
    return x * log(y) if x != T(0.0) or y != y else T(0.0)


# --- binary cross-entropy -------------------------------------------------------------------------------------------


def log_clamped(u):
    """log u for 0 <= u <= 1/2, but at least -100.  Backends may have a shorter way for this range."""
    T = type(u)
    value = log(u)
    return T(-100.0) if value < T(-100.0) else value


def log_complement_rest(u):
    """-log(1 - u) - u for 0 <= u <= 1/2: the sum of that and u is not rounded before it is used.  Backends may have a shorter way
    for this range."""
    return -(log1p(-u) + u)


def weighted_sum(a, u, b, v, c):
    """a u + b v + c, where c is the smallest.  Backends may have a way with fewer roundings."""
    return max(a * u, b * v) + (min(a * u, b * v) + c)


def bce(x, y):
    """-[y log x + (1 - y) log(1 - x)], each logarithm at least -100; NaN where x or y is no probability.

    Only the logarithm of the smaller one of x and 1 - x, which is exact then, needs the whole range.
    """
    T = type(x)
    below = T(1.0) - x
    u = x if x < below else below
    rare = log_clamped(u)
    often = -(u + log_complement_rest(u))
    high = x > T(0.5)
    hit = often if high else rare
    missed = rare if high else often
    miss = T(1.0) - y
    low = (T(1.0) - miss) - y  # what its rounding took away
    value = -weighted_sum(y, hit, miss, missed, low * missed)
    return value if u >= T(0.0) and y >= T(0.0) and miss >= T(0.0) else T(float("nan"))


def bce_slope(x, y):
    T = type(x)
    v = (T(1.0) - x) * x
    return (x - y) / (T(1e-12) if v < T(1e-12) else v)


def decay(a):
    """exp(-a) for a >= 0.  Backends may have a shorter way for this range."""
    return exp(-a)


def softplus_tail(a):
    """log1p(exp(-a)) for a >= 0: what softplus has beyond max(x, 0).  Backends may have a shorter way for this range."""
    return log1p(decay(a))


def bce_logits(x, y):
    """(1 - y) softplus(x) + y softplus(-x): no term cancels another, however small the result.

    softplus(x) = max(x, 0) + log1p(exp(-|x|)), of which the second part is common to both terms.
    """
    return softplus_added(abs(x), bce_logits_linear(x, y))


def softplus_added(a, linear):
    """log1p(exp(-a)) + linear for a >= 0, where neither is negative.  Backends may have a way with fewer roundings."""
    return linear + softplus_tail(a)


def bce_logits_linear(x, y):
    """(1 - y) max(x, 0) + y max(-x, 0); x is left out where its coefficient is 0, so that infinite logits may cost nothing."""
    T = type(x)
    above = T(1.0) if x > T(0.0) else T(0.0)
    share = above - y
    return share * x if share != T(0.0) else T(0.0)


def bce_logits_odds(x, y):
    """Odds of the less probable of the two classes."""
    return decay(abs(x))


def bce_logits_slope(x, y):
    """(1 - y) sigmoid(x) - y sigmoid(-x), of which one sigmoid is e / (1 + e) and the other 1 / (1 + e)."""
    T = type(x)
    e = decay(abs(x))
    above = T(1.0) if x >= T(0.0) else T(0.0)
    return ((above - y) + ((T(1.0) - above) - y) * e) / (T(1.0) + e)


def bce_logits_positive(x, y, positive):
    """(1 - y) softplus(x) + positive y softplus(-x), as above."""
    T = type(x)
    miss = T(1.0) - y
    hit = positive * y
    share = miss if x > T(0.0) else -hit
    linear = share * x if share != T(0.0) else T(0.0)
    return linear + (miss + hit) * softplus_tail(abs(x))


def bce_logits_positive_slope(x, y, positive):
    """(1 - y) sigmoid(x) - positive y sigmoid(-x)."""
    T = type(x)
    e = decay(abs(x))
    big = T(1.0) / (T(1.0) + e)
    small = e * big
    up = big if x >= T(0.0) else small
    down = small if x >= T(0.0) else big
    return (T(1.0) - y) * up - positive * y * down


def focal_share(x, y):
    """The share of the target that is against what the logit says; 0 for labels that are hit."""
    T = type(x)
    return T(1.0) - y if x > T(0.0) else y


def focal_odds(x, y):
    """(1 + e) m with e = exp(-|x|) and m = (1 - y) sigmoid(x) + y sigmoid(-x), the probability that is missed; for labels that are hit
    divided by e."""
    T = type(x)
    share = focal_share(x, y)
    return share + (T(1.0) - share) * decay(abs(x)) if share > T(0.0) else T(1.0)


def focal_odds_low(x, y):
    """What that lacks: of 1 - y, and of the sum."""
    T = type(x)
    share = focal_share(x, y)
    part = (T(1.0) - share) * decay(abs(x))
    total = share + part
    low = min(share, part) - (total - max(share, part))
    return (low + ((T(1.0) - share) - y) if x > T(0.0) else low) if share > T(0.0) else T(0.0)


def times_decay(weight, u, v, e, a, low):
    """weight (u + v) / (1 + e) exp(-a) (1 - low), a >= 0.  Backends may have a way with fewer roundings."""
    T = type(weight)
    value = weight * ((u + v) / (T(1.0) + e)) * decay(a)
    return value - value * low if abs(value) < T(float("inf")) else value


def focal_times(weight, u, v, e, x, y, gamma):
    """weight (u + v) / (1 + e) m^gamma, with the digits that logarithm, products and sum lack."""
    T = type(x)
    missed = focal_share(x, y) > T(0.0)
    odds = focal_odds(x, y)
    logarithm = log(odds)
    far = -logarithm if missed else min(abs(x), T(1e38))
    much = gamma * far
    low = product_error(gamma, far, much) - gamma * log_low(odds, focal_odds_low(x, y), logarithm)
    softplus = softplus_tail(abs(x))
    tail = gamma * softplus
    whole = much + tail
    low = low + (product_error(gamma, softplus, tail) + (min(much, tail) - (whole - max(much, tail))))
    return times_decay(weight, u, v, e, whole, low if abs(low) < T(1.0) else T(0.0))


def short_focal(x, y, gamma, positive, negative, value):
    """`sigmoid_focal`, which is `value`.  Backends may have a shorter way for float32, through float64."""
    return value


def short_focal_slope(x, y, gamma, positive, negative, value):
    """`sigmoid_focal_slope`, which is `value`; likewise."""
    return value


def sigmoid_focal(x, y, gamma, positive, negative):
    """Binary cross-entropy times m^gamma, times `positive` for label 1 and `negative` for label 0 (Lin et al. 2017)."""
    T = type(x)
    weight = positive * y + negative * (T(1.0) - y)
    value = focal_times(weight, bce_logits(x, y), T(0.0), T(0.0), x, y, gamma)
    inside = y >= T(0.0) and y <= T(1.0)
    return short_focal(x, y, gamma, positive, negative, value if inside else T(float("nan")))


def sigmoid_focal_slope(x, y, gamma, positive, negative):
    """m'/m is (1 - 2 y) e / ((1 + e) odds), with e and odds as above; it vanishes before an infinite loss does."""
    T = type(x)
    weight = positive * y + negative * (T(1.0) - y)
    e = decay(abs(x))
    turn = (T(1.0) - y - y) * ((e if focal_share(x, y) > T(0.0) else T(1.0)) / focal_odds(x, y))
    more = gamma * bce_logits(x, y) * turn if turn != T(0.0) else T(0.0)
    own = (T(1.0) - y) - y * e if x > T(0.0) else (T(1.0) - y) * e - y
    return short_focal_slope(x, y, gamma, positive, negative, focal_times(weight, own, more, e, x, y, gamma))


def short_focal_squared(x, y, positive, negative, value):
    """`sigmoid_focal_squared`, which is `value`; likewise."""
    return value


def short_focal_squared_slope(x, y, positive, negative, value):
    """`sigmoid_focal_squared_slope`, which is `value`; likewise."""
    return value


def sigmoid_focal_squared(x, y, positive, negative):
    """`sigmoid_focal` with gamma 2, which needs no logarithm for its power."""
    T = type(x)
    return short_focal_squared(x, y, positive, negative, sigmoid_focal(x, y, T(2.0), positive, negative))


def sigmoid_focal_squared_slope(x, y, positive, negative):
    T = type(x)
    return short_focal_squared_slope(x, y, positive, negative, sigmoid_focal_slope(x, y, T(2.0), positive, negative))


# --- likelihoods ----------------------------------------------------------------------------------------------------


def stirling(y):
    """y log y - y + log(2 pi y) / 2, which stands for log(y!) above 1; 0 below (NaN for NaN)."""
    T = type(y)
    value = (y + T(0.5)) * log(y) - y + T(0.9189385332046727)
    return value if y > T(1.0) else y * T(0.0)


def poisson_log(x, y):
    """exp(x) - y x, with x the logarithm of the rate."""
    return exp(x) - y * x


def poisson_log_slope(x, y):
    return exp(x) - y


def poisson_log_full(x, y):
    """`poisson_log` with log(y!) added."""
    return poisson_log(x, y) + stirling(y)


def poisson_log_full_slope(x, y):
    return poisson_log_slope(x, y)


def log_shifted(x, eps):
    """log(x + eps), with what the sum lacks, without which an eps of 1e-8 would not count near x = 1."""
    T = type(x)
    total = x + eps
    low = difference_low(x, -eps, total) / total
    return log(total) + (low if abs(low) < T(0.5) else T(0.0))


def poisson(x, y, eps):
    """x - y log(x + eps), with x the rate."""
    return x - y * log_shifted(x, eps)


def poisson_slope(x, y, eps):
    T = type(x)
    scale = halving(x, eps)
    return T(1.0) - scale * y / (scale * x + scale * eps)


def poisson_full(x, y, eps):
    """`poisson` with log(y!) added."""
    return poisson(x, y, eps) + stirling(y)


def poisson_full_slope(x, y, eps):
    return poisson_slope(x, y, eps)


def gaussian(x, y, variance, constant, eps):
    """(log v + d^2 / v) / 2 + constant, with v the variance but at least eps (Nix and Weigend 1994)."""
    T = type(x)
    v = eps if variance < eps else variance
    d = x - y
    value = T(0.5) * (log(v) + d * (d / v)) + constant
    return value if not variance < T(0.0) else T(float("nan"))


def gaussian_slope(x, y, variance, constant, eps):
    v = eps if variance < eps else variance
    return (x - y) / v


def kl_div(x, y):
    """y (log y - x), with x the predicted log-probability; 0 where y = 0, NaN for a negative y."""
    T = type(x)
    return y * (log(y) - x) if y != T(0.0) or x != x else T(0.0)


def kl_div_slope(x, y):
    return -y if x == x else x


def kl_div_log(x, y):
    """exp(y) (y - x), with both logarithms of probabilities; 0 where exp(y) = 0.

    exp(y) may be too small for all its digits where the product is not: e^64 of it is taken out again at the end.
    """
    T = type(x)
    small = y < T(-64.0)
    lift = T(64.0) if small else T(0.0)
    drop = T(1.603810890548638e-28) if small else T(1.0)
    p = exp(y + lift)
    return p * (y - x) * drop if p != T(0.0) or x != x else T(0.0)


def kl_div_log_slope(x, y):
    return -exp(y) if x == x else x


def categorical(x, y):
    """-y log x, with x a probability; 0 where y = 0, inf where only x = 0, NaN where x is none."""
    T = type(x)
    return -xlogy(y, x) if x <= T(1.0) and x >= T(0.0) else T(float("nan"))


def categorical_slope(x, y):
    T = type(x)
    return -y / x if y != T(0.0) or x != x else T(0.0)


# --- deviances: twice the log-likelihood that a prediction falls short of the target's own by -----------------------------


def log_quotient(a, b):
    """log(a / b), also where the quotient leaves the range, or that of the roots does."""
    T = type(a)
    q = a / b
    fits = q > T(1e-30) and q < T(1e30)
    return log(q if fits else sqrt(sqrt(a)) / sqrt(sqrt(b))) * (T(1.0) if fits else T(4.0))


def relative_distance(a, b):
    """(a - b) / (a + b), where the sum may overflow."""
    scale = halving(a, b)
    return (scale * (a - b)) / (scale * a + scale * b)


def divergence_share(s):
    """(b log(b / a) - b + a) / (a - b) for s = (a - b) / (a + b), |s| <= 0.7: s - (1 - s) (atanh(s) / s - 1).

    The polynomial in s^2, for (atanh(s) / s - 1) / s^2, is minimax in the relative error, 2^-54.
    """
    T = type(s)
    z = s * s
    p = T(14.474287205417546)
    p = p * z + T(-63.12981870775751)
    p = p * z + T(131.06188343510556)
    p = p * z + T(-169.8673078127799)
    p = p * z + T(153.46660178594345)
    p = p * z + T(-102.10959943694273)
    p = p * z + T(51.809275472876514)
    p = p * z + T(-20.355612951247558)
    p = p * z + T(6.340437520264555)
    p = p * z + T(-1.5031700632850928)
    p = p * z + T(0.33718410100075635)
    p = p * z + T(-0.0016384041751910869)
    p = p * z + T(0.05296244378940298)
    p = p * z + T(0.05214449743700243)
    p = p * z + T(0.058857039821670655)
    p = p * z + T(0.06666497407879785)
    p = p * z + T(0.07692313728295408)
    p = p * z + T(0.09090908947313399)
    p = p * z + T(0.11111111113200739)
    p = p * z + T(0.14285714285698198)
    p = p * z + T(0.20000000000000048)
    p = p * z + T(0.3333333333333333)
    return s - (s * p) * ((T(1.0) - s) * s)


def is_single(x):
    """1 in float32, 0 in float64."""
    T = type(x)
    return T(1.0) if T(1.0) + T(1e-10) == T(1.0) else T(0.0)


def product_error(a, b, product):
    """a b - product, where that is the product rounded (Dekker 1971): a variable of its own, which no sum takes in, as compilers may
    round a product and a sum once.  Here that leaves nothing to split, and is exact."""
    T = type(a)
    by = T(4097.0) if is_single(a) > T(0.0) else T(134217729.0)
    a_high = by * a - (by * a - a)
    b_high = by * b - (by * b - b)
    a_low = a - a_high
    b_low = b - b_high
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def square_low(a, b, s):
    """What the square (a - b)^2 / (a + b) lacks for the roundings of difference (Moller 1965), sum and their quotient s, over s."""
    T = type(a)
    difference = a - b
    low = difference_low(a, b, difference)
    scale = halving(a, b)
    most = scale * max(a, b)
    least = scale * min(a, b)
    total = most + least
    product = s * total
    rest = (scale * difference - product) - product_error(s, total, product) - s * (least - (total - most))
    reaches = abs(product) > T(1e-30) and rest == rest  # further down the product's own error is 0
    return T(2.0) * low + (rest / scale if reaches else T(0.0))


def short_divergence(x, y, value):
    """`generalized_kl`, which is `value`.  Backends may have a shorter way for float32, through float64."""
    return value


def short_log_excess(a, b, value):
    """a / b - 1 - log(a / b) for positive a and b, which is `value`; likewise."""
    return value


def generalized_kl(x, y):
    """y log(y / x) - y + x (Csiszar 1975): a square near x = y, where the terms would cancel; x where y = 0."""
    T = type(x)
    d = x - y
    s = relative_distance(x, y)
    share = divergence_share(s)
    near = d * share + square_low(x, y, s) * share
    far = d - y * log_quotient(x, y)
    inside = x >= T(0.0) and y >= T(0.0)
    value = ((near if abs(s) <= T(0.7) else far) if y > T(0.0) else x) if inside else T(float("nan"))
    return short_divergence(x, y, value)


def generalized_kl_slope(x, y):
    T = type(x)
    return (x - y) / x if y != T(0.0) or x != x else T(1.0)


def poisson_deviance(x, y):
    """2 (y log(y / x) - y + x), with x the rate."""
    T = type(x)
    return T(2.0) * generalized_kl(x, y) if x > T(0.0) else T(float("nan"))


def poisson_deviance_slope(x, y):
    T = type(x)
    return T(2.0) * ((x - y) / x)


def gamma_deviance(x, y):
    """2 (log(x / y) + y / x - 1)."""
    T = type(x)
    s = relative_distance(y, x)
    d = y - x
    share = divergence_share(s)
    near = d / x * share + square_low(y, x, s) / x * share
    far = (y / x - T(1.0)) - log_quotient(y, x)
    inside = x > T(0.0) and y > T(0.0)
    value = (near if abs(s) <= T(0.6) else far) if inside else T(float("nan"))
    return T(2.0) * short_log_excess(y, x, value)


def gamma_deviance_slope(x, y):
    T = type(x)
    return T(2.0) * ((x - y) / x) / x


# --- powers with the digits that a logarithm lacks ---------------------------------------------------------------------------


def log_low(x, x_low, logarithm):
    """What the logarithm of x + x_low lacks, by one of Newton's steps; 0 where x is 0 or infinite."""
    T = type(x)
    back = exp(logarithm)
    low = ((x - back) + x_low) / back
    return low if abs(low) < T(0.01) else T(0.0)


def exponent_low(logarithm, rest, power, power_low):
    """What power * logarithm, rounded, lacks of (power + power_low) (logarithm + rest), as a factor: exp of that, less 1."""
    T = type(logarithm)
    low = product_error(power, logarithm, power * logarithm) + (power_low * logarithm + power * rest)
    return low + low * low * (T(0.5) + low * T(0.16666666666666666)) if abs(low) < T(1.0) else T(0.0)


def times_exp(factor, exponent, low):
    """factor exp(exponent) (1 + low), where the power alone may be too large or too small.  Backends may have a way with fewer
    roundings."""
    T = type(factor)
    near = abs(exponent) < T(80.0)
    power = exp(exponent if near else T(0.5) * exponent)
    value = factor * power * (T(1.0) if near else power)
    return value + value * low if abs(value) < T(float("inf")) else value


def times_raised(factor, x, power, power_low):
    """factor x^(power + power_low), x >= 0.  exp would make much of what the product is off by."""
    T = type(x)
    logarithm = log(x)
    low = exponent_low(logarithm, log_low(x, T(0.0), logarithm), power, power_low)
    return times_exp(factor, power * logarithm, low)


# --- Tweedie's deviances (Jorgensen 1987): p is their power, in two parts; twice x^(2 - p) times a function of r = y / x -----------


def tweedie_unit(b, c):
    """The second divided difference of exp at 0, b and c, for |b| and |c| up to 2: its series, by Horner's rule."""
    T = type(b)
    tail = T(2.4795962632247976e-27)
    total = tail
    tail = c * tail + T(6.446950284384474e-26)
    total = b * total + tail
    tail = c * tail + T(1.6117375710961184e-24)
    total = b * total + tail
    tail = c * tail + T(3.868170170630684e-23)
    total = b * total + tail
    tail = c * tail + T(8.896791392450574e-22)
    total = b * total + tail
    tail = c * tail + T(1.9572941063391263e-20)
    total = b * total + tail
    tail = c * tail + T(4.110317623312165e-19)
    total = b * total + tail
    tail = c * tail + T(8.22063524662433e-18)
    total = b * total + tail
    tail = c * tail + T(1.5619206968586225e-16)
    total = b * total + tail
    tail = c * tail + T(2.8114572543455206e-15)
    total = b * total + tail
    tail = c * tail + T(4.779477332387385e-14)
    total = b * total + tail
    tail = c * tail + T(7.647163731819816e-13)
    total = b * total + tail
    tail = c * tail + T(1.1470745597729725e-11)
    total = b * total + tail
    tail = c * tail + T(1.6059043836821613e-10)
    total = b * total + tail
    tail = c * tail + T(2.08767569878681e-09)
    total = b * total + tail
    tail = c * tail + T(2.505210838544172e-08)
    total = b * total + tail
    tail = c * tail + T(2.755731922398589e-07)
    total = b * total + tail
    tail = c * tail + T(2.7557319223985893e-06)
    total = b * total + tail
    tail = c * tail + T(2.48015873015873e-05)
    total = b * total + tail
    tail = c * tail + T(0.0001984126984126984)
    total = b * total + tail
    tail = c * tail + T(0.001388888888888889)
    total = b * total + tail
    tail = c * tail + T(0.008333333333333333)
    total = b * total + tail
    tail = c * tail + T(0.041666666666666664)
    total = b * total + tail
    tail = c * tail + T(0.16666666666666666)
    total = b * total + tail
    tail = c * tail + T(0.5)
    total = b * total + tail
    return total


def log_near(a, b, far):
    """log(a / b), which is `far` where they are not close to each other.  Backends may have a way with fewer roundings."""
    T = type(a)
    return far if a < T(0.5) * b else log1p((a - b) / b)


def tweedie_scaled(x, y, p, p_low, logarithm, far, by_both, by_target):
    """With L = log r, the function is L^2 times the second divided difference of exp at 0, L and (2 - p) L; `far` is what takes its
    place where these are far enough apart for it to be taken as a difference.

    by_both, by_target : whether, as 1 or 0, `far` is to be multiplied by y x^(1 - p), or by y^(2 - p): either may be finite where
        a power of r is not.
    """
    T = type(x)
    b = log_near(y, x, logarithm)
    c = (T(2.0) - p - p_low) * b
    near = abs(b) <= T(2.0) and abs(c) <= T(2.0)
    both = by_both > T(0.0) and not near
    unit = T(2.0) * (b * b * tweedie_unit(b, c) if near else far)
    factor = unit * y if both else unit
    over = both and abs(factor) == T(float("inf"))
    base = y if by_target > T(0.0) and not near else x
    whole = T(1.0) if both else T(2.0)
    power = whole - p
    power_low = difference_low(whole, p, power) - p_low
    value = times_raised(unit * (y * T(1.1641532182693481e-10)) if over else factor, base, power, power_low)
    return (value * T(8589934592.0) if over else value) if unit != T(0.0) else unit


def short_tweedie_slope(x, y, p, p_low, value):
    """`tweedie_slope`, which is `value`.  Backends may have a shorter way for float32, through float64."""
    return value


def tweedie_slope(x, y, p, p_low):
    """2 (x - y) / x^p."""
    T = type(x)
    power = T(1.0) - p
    value = times_raised(T(2.0) * ((x - y) / x), x, power, difference_low(T(1.0), p, power) - p_low)
    return short_tweedie_slope(x, y, p, p_low, value if x != y else x - y)


def short_tweedie(x, y, p, p_low, value):
    """`tweedie_low` or `tweedie_high`, which is `value`; likewise."""
    return value


def tweedie_low(x, y, p, p_low):
    """p < 1.5, which is nearer to 1 than to 2: y may be 0, and for p < 0 any number."""
    T = type(x)
    first = T(1.0) - p - p_low
    second = T(2.0) - p - p_low
    logarithm = log_quotient(y, x)
    more = abs(y) > x
    rises = more and y > T(0.0) and first > T(0.0)
    ratio = x / y if more else y / x
    gap = (y - x) / (y if more else x)
    # nothing that overflows: further down nothing is left of r^(2 - p)
    shortened = logarithm if more or logarithm > T(-600.0) else T(-600.0)
    power = expm1((-first if rises else first) * shortened) / first
    plain = (power if more else ratio * power) - gap
    steep = -power - (power * first + T(1.0)) * gap
    positive = (steep if rises else plain) / second
    negative = ratio / second - T(1.0) / first if more else T(1.0) / second - ratio / first
    both = T(1.0) if more and not rises else T(0.0)
    far = positive if y > T(0.0) else negative
    value = tweedie_scaled(x, y, p, p_low, logarithm, far, both, T(1.0) if rises else T(0.0))
    inside = x > T(0.0) and (y >= T(0.0) or y < T(0.0) and p < T(0.0))
    return short_tweedie(x, y, p, p_low, value if inside else T(float("nan")))


def tweedie_low_slope(x, y, p, p_low):
    return tweedie_slope(x, y, p, p_low)


def tweedie_high(x, y, p, p_low):
    """p >= 1.5; y may be 0 for p < 2."""
    T = type(x)
    second = T(2.0) - p - p_low
    logarithm = log_quotient(y, x)
    more = y > x
    falls = not more and second < T(0.0)
    ratio = x / y if more else y / x
    gap = (y - x) / (y if more else x)
    # nothing that overflows: further up nothing is left of r^(1 - p)
    shortened = T(600.0) if more and logarithm > T(600.0) else logarithm
    power = expm1((-second if falls else second) * shortened) / second
    plain = gap - (ratio * power if more else power)
    steep = gap * (power * second + T(1.0)) + power
    far = (steep if falls else plain) / (T(1.0) - second)
    value = tweedie_scaled(x, y, p, p_low, logarithm, far, T(1.0) if more else T(0.0), T(1.0) if falls else T(0.0))
    inside = x > T(0.0) and (y > T(0.0) or y == T(0.0) and second > T(0.0))
    return short_tweedie(x, y, p, p_low, value if inside else T(float("nan")))


def tweedie_high_slope(x, y, p, p_low):
    return tweedie_slope(x, y, p, p_low)


# --- what the loss of a row of logits and its slopes are put together from, in float64 ------------------------------------------


def scaled(share, loss):
    """share * loss, but 0 for a share of 0 even if the loss is infinite; NaN stays NaN."""
    T = type(loss)
    return share * loss if share != T(0.0) or loss != loss else T(0.0)


def mixed_loss(share, mass, tail):
    """A row's smoothed loss, from the sums of q (top - x) and of q; tail = logsumexp - top.

    A class of infinite weight makes it infinite, even where that class is on top and 0 times infinity has left NaN.
    """
    T = type(tail)
    return mass if abs(mass) == T(float("inf")) and tail == tail else share + mass * tail


def target_slope(others, p, share, mass, own):
    """Derivative of share * nll + (the smoothed part of a row's loss) with respect to its target's logit.

    others : 1 - p, the target's probability, from the sum of the others, because the difference would cancel.
    mass : the weight of the smoothed part, of which the target has `own`.
    """
    return (mass * p - own) - share * others


# --- losses of rows of logits, of their nll and logsumexp: value, factor and gradient at the target as in `losses.RowFormula` -


def missed_share(nll):
    """1 - p, the probability that is not the target's."""
    return -expm1(-nll)


def focal(nll, lse, gamma):
    """(1 - p)^gamma nll (Lin et al. 2017)."""
    T = type(nll)
    miss = missed_share(nll)
    return times_raised(nll, miss, min(gamma, T(1e30)), T(0.0)) if miss > T(0.0) else nll


def focal_steepness(nll, miss, gamma):
    """1 + gamma p nll / (1 - p): the slope over (1 - p)^gamma."""
    T = type(nll)
    p = exp(-nll)
    return T(1.0) + gamma * (p * (nll / miss)) if p > T(0.0) else T(1.0)


def focal_factor(nll, lse, gamma):
    T = type(nll)
    miss = missed_share(nll)
    power = min(gamma, T(1e30))
    slope = times_raised(focal_steepness(nll, miss, power), miss, power, T(0.0))
    at_zero = T(0.0) if gamma > T(0.0) else T(1.0)
    return slope if miss > T(0.0) else at_zero + nll


def focal_at_target(nll, lse, gamma):
    T = type(nll)
    miss = missed_share(nll)
    power = min(gamma, T(1e30))
    slope = times_raised(miss * focal_steepness(nll, miss, power), miss, power, T(0.0))
    return -slope if miss > T(0.0) else nll


def focal_squared(nll, lse):
    """`focal` with gamma 2, which needs no logarithm for its power."""
    miss = missed_share(nll)
    return nll * miss * miss


def focal_squared_factor(nll, lse):
    """(1 - p) (1 - p + 2 p nll), both p and 1 - p from the same exponential: p is (1 + h)^2."""
    T = type(nll)
    h = expm1(T(-0.5) * nll)
    miss = -(h * (T(2.0) + h))
    p = (T(1.0) + h) * (T(1.0) + h)
    return miss * (miss + (T(2.0) * (p * nll) if p > T(0.0) else T(0.0)))


def focal_squared_at_target(nll, lse):
    return -(missed_share(nll) * focal_squared_factor(nll, lse))


def poly(nll, lse, epsilon):
    """nll + epsilon (1 - p), the first of PolyLoss's terms changed (Leng et al. 2022)."""
    return nll + epsilon * missed_share(nll)


def poly_factor(nll, lse, epsilon):
    T = type(nll)
    return T(1.0) + epsilon * exp(-nll)


def poly_at_target(nll, lse, epsilon):
    T = type(nll)
    return -((T(1.0) + epsilon * exp(-nll)) * missed_share(nll))


def with_z(nll, lse, z):
    """nll + z lse^2 (Chowdhery et al. 2022)."""
    return nll + z * lse * lse


def with_z_factor(nll, lse, z):
    T = type(nll)
    return T(1.0) + T(2.0) * (z * lse)


def with_z_at_target(nll, lse, z):
    T = type(nll)
    return T(2.0) * (z * lse) * exp(-nll) - missed_share(nll)


# --- what logits go through before a softmax: how far they are apart afterwards, x from y ------------------------------------


def tempered(x, y, temperature):
    """(x - y) / temperature (Guo et al. 2017); of halves where the difference would leave the range."""
    T = type(x)
    d = x - y
    far = T(2.0) * ((T(0.5) * x - T(0.5) * y) / temperature)
    return d / temperature if abs(d) < T(1e38) else far


def tempered_slope(x, y, temperature):
    T = type(x)
    return T(1.0) / temperature


def capped(x, y, softcap, temperature):
    """softcap (tanh(x / softcap) - tanh(y / softcap)) / temperature (Gemma Team 2024); an infinite x stays infinite.

    tanh a - tanh b = sinh(a - b) / (cosh a cosh b), of exponentials that can't overflow: nothing cancels where both are near 1.
    """
    T = type(x)
    a = abs(x) / softcap
    b = abs(y) / softcap
    u = exp(T(-2.0) * a)
    v = exp(T(-2.0) * b)
    alike = (x > T(0.0) and y > T(0.0)) or (x < T(0.0) and y < T(0.0))
    w = max(u, v) if alike else T(1.0)
    d = T(-2.0) * (abs(x - y) / softcap)
    size = softcap * (T(-2.0) * expm1(d) * w / ((T(1.0) + u) * (T(1.0) + v)))
    curved = (size if x > y else -size) / temperature
    finite = abs(x) < T(float("inf"))
    return curved if finite and max(a, b) > T(1e-9) else tempered(x, y, temperature)


def capped_slope(x, y, softcap, temperature):
    T = type(x)
    u = exp(T(-2.0) * (abs(x) / softcap))
    return T(4.0) * u / ((T(1.0) + u) * (T(1.0) + u)) / temperature
