// The low-rank adapter beside a linear. Where rows of the input and of the output's gradient have room behind them, u
// and du are written there, and base and adapter are one product with the extended weight:
//   y = [x | u] [W | sB]^T      dx = [dy | du] [W ; A]
// with a single rounding and no second pass over y or dx. Elsewhere each is a product that adds.
#include <ATen/ATen.h>

#include "cuda/calls.h"
#include "cuda/cuda_ops.h"
#include "cuda/gemm.h"

namespace phi3tune::cuda {
namespace {

// The parts of an extended weight [O + p, K + p].
struct Extended {
  explicit Extended(const LinearWeight& weight)
      : outputs(weight.matrix.size(0)),
        inputs(weight.matrix.size(1)),
        room(weight.extended.defined() ? weight.extended.size(0) - outputs : 0),
        whole(weight.extended) {}
  Tensor forward() const { return whole.narrow(0, 0, outputs); }                           // [W | sB]
  Tensor backward() const { return whole.narrow(1, 0, inputs); }                           // [W ; A]
  Tensor a() const { return whole.narrow(0, outputs, room).narrow(1, 0, inputs); }         // [p, K]
  Tensor scaled_b() const { return whole.narrow(0, 0, outputs).narrow(1, inputs, room); }  // [O, p]

  int64_t outputs, inputs, room;  // O, K, p
  Tensor whole;
};

// May p elements behind each row be written? Rows further apart than they are wide say so.
bool has_room(const Tensor& rows, int64_t room) {
  if (room == 0 || rows.size(0) == 0 || rows.stride(0) < rows.size(1) + room) {
    return false;
  }
  const int64_t end = rows.storage_offset() + (rows.size(0) - 1) * rows.stride(0) + rows.size(1) + room;
  return static_cast<size_t>(end) * rows.element_size() <= rows.storage().nbytes();
}

// The rows with the room behind them, and that alone.
Tensor with_room(const Tensor& rows, int64_t room) {
  return rows.as_strided({rows.size(0), rows.size(1) + room}, {rows.stride(0), 1}, rows.storage_offset());
}
Tensor room_of(const Tensor& rows, int64_t room) { return with_room(rows, room).narrow(1, rows.size(1), room); }

void copy_columns(const char* op, const Tensor& to, const Tensor& from) {
  with_dtype(op, to.scalar_type(), [&]<typename T>(T) {
    launched(
        op,
        kernels::convert<T, T>(data<T>(to), ld(to), data<T>(from), ld(from), to.size(0), to.size(1), 1.0F, stream()),
        {&to});
  });
}

}  // namespace

void adapted_linear(const Tensor& y, const Tensor& u, const Tensor& x, const Tensor& branch, const LinearWeight& weight,
                    const LowRank& adapter) {
  constexpr const char* kOp = "adapted_linear";
  const Extended extended(weight);
  if (has_room(x, extended.room)) {
    const Tensor tail = room_of(x, extended.room);
    gemm(kOp, tail, branch, extended.a().t());
    copy_columns(kOp, u, tail.narrow(1, 0, u.size(1)));
    gemm(kOp, y, with_room(x, extended.room), extended.forward().t());
    return;
  }
  gemm(kOp, u, branch, adapter.a.t());
  gemm(kOp, y, x, weight.matrix.t());
  gemm(kOp, y, u, adapter.b.t(), adapter.scale, 1.0);
}

void lora_output_gradient(const Tensor& grad_b, const Tensor& du, const Tensor& dy, const Tensor& u,
                          const LinearWeight& weight, const LowRank& adapter) {
  constexpr const char* kOp = "lora_output_gradient";
  const Extended extended(weight);
  if (has_room(dy, extended.room)) {
    const Tensor tail = room_of(dy, extended.room);
    gemm(kOp, tail, dy, extended.scaled_b());
    if (du.data_ptr() != tail.data_ptr()) {
      copy_columns(kOp, du, tail.narrow(1, 0, du.size(1)));
    }
  } else {
    gemm(kOp, du, dy, adapter.b, adapter.scale);
  }
  gemm(kOp, grad_b, dy.t(), u, adapter.scale, 1.0);
}

void adapted_input_gradient(const Tensor& dx, const Tensor& scratch, const Tensor& dy, const Tensor& du,
                            const LinearWeight& weight, const LowRank& adapter, const Documents& documents,
                            const DropoutKey& key) {
  constexpr const char* kOp = "adapted_input_gradient";
  if (key.p > 0.0) {
    gemm(kOp, dx, dy, weight.matrix);
    gemm(kOp, scratch, du, adapter.a);
    dropout_add(dx, scratch, documents, key);
    return;
  }
  const Extended extended(weight);
  if (has_room(dy, extended.room) && du.data_ptr() == room_of(dy, extended.room).data_ptr()) {
    gemm(kOp, dx, with_room(dy, extended.room), extended.backward());
    return;
  }
  gemm(kOp, dx, dy, weight.matrix);
  gemm(kOp, dx, du, adapter.a, 1.0, 1.0);
}

void lora_input_weight_gradient(const Tensor& grad_a, const Tensor& du, const Tensor& branch) {
  gemm("lora_input_weight_gradient", grad_a, du.t(), branch, 1.0, 1.0);
}

void write_extension(const LinearWeight& weight, const Tensor& a, const Tensor& b, double scale) {
  constexpr const char* kOp = "write_extension";
  const Extended extended(weight);
  if (extended.room == 0) {
    return;
  }
  const int64_t rank = a.size(0);
  const int64_t rest = extended.room - rank;
  const auto write = [&](const Tensor& to, const Tensor& from, double factor) {
    with_dtype(kOp, to.scalar_type(), [&]<typename T>(T) {
      launched(kOp,
               kernels::convert<T, float>(data<T>(to), ld(to), data<float>(from), ld(from), from.size(0), from.size(1),
                                          static_cast<float>(factor), stream()),
               {&from});
    });
  };
  write(extended.a(), a, 1.0);
  write(extended.scaled_b(), b, scale);
  if (rest > 0) {
    guarded(kOp, {&weight.extended}, [&] {
      extended.a().narrow(0, rank, rest).zero_();
      extended.scaled_b().narrow(1, rank, rest).zero_();
    });
  }
}

}  // namespace phi3tune::cuda
