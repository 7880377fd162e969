//! The text of the C code.

use super::memory::{GROUP, Location, Memory, StageMemory};
use super::template::fill;
use super::{CCode, CDescription, CNetwork};
use crate::base::Name;
use crate::export::error::ExportError;
use crate::export::int8::{IntegerStage, LARGEST_TERM, Multiplier};
use crate::export::stages::{Form, Kernel, Stage};
use std::fmt::{Display, Write};

/// Bytes of the counters of a stage, with and without a queue.
const STATE_BYTES: usize = 24;
const STATE_WITH_QUEUE_BYTES: usize = 32;
/// Bytes of the counters of a clip.
const CLIP_BYTES: usize = 8;

/// Writes header and source.
pub(super) fn write(network: CNetwork<'_>, description: &CDescription<'_>) -> Result<CCode, ExportError> {
    let stages = network.stages();
    let memory = Memory::new(stages, &wide(network)).ok_or_else(|| ExportError::NoForm {
        layer: stages
            .stages
            .iter()
            .find(|stage| stage.form.residual.is_some())
            .map_or("", |stage| &stage.form.name)
            .into(),
        operation: "an addition".into(),
        format: "C code",
        advice: "the rows that it adds must not come later than the result",
    })?;
    let mut data = String::new();
    let mut weight_bytes = 0;
    for (i, stage) in stages.stages.iter().enumerate() {
        weight_bytes += match network {
            CNetwork::Float(_) => float_data(&mut data, i, stage),
            CNetwork::Integer(_, integer) => integer_data(&mut data, i, &integer.stages[i]),
        };
    }
    weight_bytes += network_data(&mut data, network);
    let conditions = conditions(network);
    let number_bytes = if is_float(network) { [4, 4] } else { [2, 1] };
    let has_queue = conditions.contains(&"queue");
    let state_bytes = if has_queue { STATE_WITH_QUEUE_BYTES } else { STATE_BYTES };
    let ram_bytes = memory.wide.max(1) * number_bytes[0]
        + memory.rows * number_bytes[1]
        + memory.sums * 4
        + state_bytes * stages.stages.len()
        + CLIP_BYTES;
    let table = table(network, &memory);
    let values = Values { network, description, memory: &memory, ram_bytes, weight_bytes };
    Ok(CCode { header: values.header(), source: values.source(&conditions, &data, &table), ram_bytes, weight_bytes })
}

/// Of the input and of the output of each stage, whether its rows are of the type of the input.
fn wide(network: CNetwork<'_>) -> Vec<bool> {
    let of_stage = |i: usize| match network {
        CNetwork::Float(_) => false,
        CNetwork::Integer(_, integer) => integer.stages[i].most > 255,
    };
    std::iter::once(true).chain((0..network.stages().stages.len()).map(of_stage)).collect()
}

fn is_float(network: CNetwork<'_>) -> bool {
    matches!(network, CNetwork::Float(_))
}

/// The parts of the templates that the network needs.
fn conditions(network: CNetwork<'_>) -> Vec<&'static str> {
    let stages = network.stages();
    let mut conditions = vec![if is_float(network) { "f32" } else { "int8" }];
    let wide = wide(network);
    conditions.extend(wide[1..].contains(&true).then_some("wide"));
    for (i, stage) in stages.stages.iter().enumerate() {
        conditions.extend(match kernel(&stage.form, wide[i] && !is_float(network)) {
            "KERNEL_CONVOLUTION" => Some("convolution"),
            "KERNEL_CONVOLUTION_WIDE" => Some("convolution_wide"),
            "KERNEL_DEPTHWISE" => Some("depthwise"),
            "KERNEL_DEPTHWISE_WIDE" => Some("depthwise_wide"),
            "KERNEL_MAX_POOL" => Some("max_pool"),
            "KERNEL_MEAN" => Some("mean"),
            _ => None,
        });
        conditions.extend(stage.form.residual.map(|_| "queue"));
        conditions.extend(stage.form.residual.filter(|&source| wide[source]).map(|_| "wide_queue"));
    }
    if stages.standardisation.is_some() {
        conditions.push("standardised");
    }
    if let CNetwork::Integer(_, integer) = network
        && stages.standardisation.is_none()
        && integer.input_factor == 32_768.0
    {
        conditions.push("exact_i16");
    }
    conditions
}

/// The kernel of a stage in C; `wide` if its input has integers of 16 bits.
fn kernel(form: &Form, wide: bool) -> &'static str {
    match form.kernel {
        Kernel::Convolution(geometry) => match (geometry.depthwise, wide) {
            (false, false) => "KERNEL_CONVOLUTION",
            (false, true) => "KERNEL_CONVOLUTION_WIDE",
            (true, false) => "KERNEL_DEPTHWISE",
            (true, true) => "KERNEL_DEPTHWISE_WIDE",
        },
        Kernel::MaxPool { .. } => "KERNEL_MAX_POOL",
        Kernel::Mean => "KERNEL_MEAN",
        Kernel::Dense => "KERNEL_DENSE",
    }
}

/// What fills the templates.
struct Values<'a> {
    network: CNetwork<'a>,
    description: &'a CDescription<'a>,
    memory: &'a Memory,
    ram_bytes: usize,
    weight_bytes: usize,
}

impl Values<'_> {
    fn header(&self) -> String {
        let CDescription { name, network, classes, rate_hz, remarks } = self.description;
        let macro_name = name.to_uppercase();
        let numbers = if is_float(self.network) { "32-bit floating-point numbers" } else { "8-bit integers" };
        let title = format!("The network {network} with {numbers}, made by stapes {}.", env!("CARGO_PKG_VERSION"));
        let kilobytes = |bytes: usize| format!("{:.1} kB", bytes as f64 / 1000.0);
        let memory = format!(
            "Memory: {} static RAM (the caller's clip not counted, which can be given piece by piece) and {} of constant data.",
            kilobytes(self.ram_bytes),
            kilobytes(self.weight_bytes)
        );
        let thread = "One clip at a time: the memory is static, and the functions must not be called from several threads at once.";
        let about = [memory.as_str(), thread].into_iter().chain(remarks.iter().map(String::as_str));
        let about: Vec<String> = about.map(comment).collect();
        let names: Vec<String> = classes.iter().map(string).collect();
        let input = self.network.input();
        let mut padding = vec![0.0; input.c];
        self.network.standardisation().iter().for_each(|values| values.fill_padding(&mut padding));
        let padding: Vec<String> = padding.into_iter().map(literal).collect();
        let values = [
            ("TITLE", comment(&title).trim_start_matches(" * ").to_string()),
            ("ABOUT", about.join("\n *\n")),
            ("RATE", rate_hz.to_string()),
            ("LENGTH", input.l.to_string()),
            ("CHANNELS", input.c.to_string()),
            ("PADDING", padding.join(", ")),
            ("CLASSES", classes.len().to_string()),
            ("RAM", self.ram_bytes.to_string()),
            ("WEIGHTS", self.weight_bytes.to_string()),
            ("MACRO", macro_name),
            ("NAME", name.to_string()),
            // Last, so that nothing in the name of a class is taken for a key.
            ("CLASS_NAMES", names.join(", ")),
        ];
        fill(include_str!("header.h"), &[], &values.each_ref().map(|(key, value)| (*key, value.as_str())))
    }

    fn source(&self, conditions: &[&str], data: &str, table: &str) -> String {
        let float = is_float(self.network);
        let Memory { rows, sums, next_row, next_wide_row, .. } = self.memory;
        let wide = self.memory.wide.max(1);
        let name = self.description.name;
        let macro_name = name.to_uppercase();
        let input_factor = match self.network {
            CNetwork::Integer(_, integer) => literal(integer.input_factor),
            CNetwork::Float(_) => String::new(),
        };
        let unit = format!("{}, {}", Multiplier::UNIT.factor, Multiplier::UNIT.shift);
        let values = [("NAME", name), ("MACRO", &macro_name), ("INPUT_FACTOR", &input_factor), ("UNIT", &unit)];
        let part = |template: &str| fill(template, conditions, &values);
        let mut text = part(include_str!("head.c"));
        _ = write!(
            text,
            "\n#define STAGES {}u\n\nconst char *const {name}_class_names[{macro_name}_CLASSES] = {macro_name}_CLASS_NAMES;\n\n{data}\n\
             static input wide_rows[{wide}];\nstatic number rows[{rows}];\nstatic sum all_sums[{sums}];\n\
             static state states[STAGES];\nstatic uint32_t frames_seen;\nstatic uint32_t begun;\n\n\
             /* The sums of a row before they go into a pool, and the output of a stage on its way to the next one. */\n\
             #define row_sums all_sums\n#define next_row (rows + {next_row})\n#define next_wide_row (wide_rows + {next_wide_row})\n\n{table}\n\
             /* {macro_name}_RAM_BYTES covers the static memory. */\n\
             typedef char ram_check[sizeof wide_rows + sizeof rows + sizeof all_sums + sizeof states + {CLIP_BYTES} <= {macro_name}_RAM_BYTES ? 1 : -1];\n\n",
            self.network.stages().stages.len()
        );
        for (kind, suffix) in [("number", ""), ("input", "_wide")] {
            for (kernel, template) in
                [("convolution", include_str!("convolution.c")), ("depthwise", include_str!("depthwise.c"))]
            {
                if conditions.contains(&format!("{kernel}{suffix}").as_str()) {
                    text += &fill(template, conditions, &[("TYPE", kind), ("SUFFIX", suffix)]);
                    text.push('\n');
                }
            }
        }
        let finish = if float { include_str!("finish_f32.c") } else { include_str!("finish_int8.c") };
        for template in [include_str!("kernels.c"), finish, include_str!("control.c")] {
            text += &part(template);
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
        text
    }
}

/// A sentence as lines of a comment.
fn comment(sentence: &str) -> String {
    let mut lines = vec![String::from(" *")];
    // A name cannot end the comment.
    for word in sentence.replace("*/", "* /").split_whitespace() {
        if lines[lines.len() - 1].len() + word.len() > 110 {
            lines.push(String::from(" *"));
        }
        let last = lines.len() - 1;
        lines[last].push(' ');
        lines[last].push_str(word);
    }
    lines.join("\n")
}

/// A name as a string of C.
fn string(name: &Name) -> String {
    let mut text = String::from("\"");
    for byte in name.as_bytes() {
        match byte {
            b' '..=b'~' if !b"\"\\?@".contains(byte) => text.push(char::from(*byte)),
            byte => _ = write!(text, "\\{byte:03o}"),
        }
    }
    text.push('"');
    text
}

/// A floating-point number that is read as the same bits.
fn literal(value: f32) -> String {
    format!("{value:e}f")
}

/// An array of constants; returns its bytes, `size` a number.
fn array(data: &mut String, declaration: &str, size: usize, values: impl IntoIterator<Item = impl Display>) -> usize {
    _ = write!(data, "static const {declaration}[] = {{");
    let mut numbers = 0;
    for value in values {
        data.push_str(if numbers % 12 == 0 { "\n    " } else { " " });
        _ = write!(data, "{value},");
        numbers += 1;
    }
    data.push_str("\n};\n");
    numbers * size
}

/// The weights of a convolution in groups of output channels, `[c_out / 4, k * c_in, 4]`, with zeros where there is no channel.
fn grouped<T: Copy + Default>(weight: &[T], channels: usize) -> Vec<T> {
    let group = |first: usize| {
        let of_tap = move |tap: &[T]| -> [T; GROUP] {
            std::array::from_fn(|lane| tap.get(first + lane).copied().unwrap_or_default())
        };
        weight.chunks_exact(channels).flat_map(of_tap)
    };
    (0..channels).step_by(GROUP).flat_map(group).collect()
}

/// Numbers for each channel, with zeros up to a whole group.
fn padded<T: Copy + Default>(values: &[T]) -> impl Iterator<Item = T> {
    let zeros = values.len().next_multiple_of(GROUP) - values.len();
    values.iter().copied().chain(std::iter::repeat_n(T::default(), zeros))
}

/// Whether the weights are stored in groups of output channels.
fn is_grouped(form: &Form) -> bool {
    matches!(form.kernel, Kernel::Convolution(geometry) if !geometry.depthwise)
}

/// The constants of a stage; returns their bytes.
fn float_data(data: &mut String, i: usize, stage: &Stage) -> usize {
    let form = &stage.form;
    let mut bytes = 0;
    if !stage.weight.is_empty() {
        _ = writeln!(data, "/* {} */", form.name);
        let weight = if is_grouped(form) { grouped(&stage.weight, form.output.c) } else { stage.weight.clone() };
        bytes += array(data, &format!("weight weights_{i}"), 4, weight.into_iter().map(literal));
    }
    let bias = match form.kernel {
        Kernel::Mean => vec![0.0; form.output.c],
        _ => stage.bias.clone(),
    };
    if !bias.is_empty() {
        bytes += array(data, &format!("sum bias_{i}"), 4, padded(&bias).map(literal));
    }
    bytes
}

/// The constants of a stage; returns their bytes.
fn integer_data(data: &mut String, i: usize, stage: &IntegerStage) -> usize {
    let form = &stage.form;
    let mut bytes = 0;
    if !stage.weight.is_empty() {
        _ = writeln!(data, "/* {} */", form.name);
        let weight = if is_grouped(form) { grouped(&stage.weight, form.output.c) } else { stage.weight.clone() };
        bytes += array(data, &format!("weight weights_{i}"), 1, weight);
    }
    if !stage.bias.is_empty() {
        bytes += array(data, &format!("sum bias_{i}"), 4, padded(&stage.bias));
    }
    if !stage.rescale.is_empty() {
        bytes += array(data, &format!("multiplier rescale_{i}"), 8, stage.rescale.iter().map(multiplier));
    }
    bytes
}

fn multiplier(multiplier: &Multiplier) -> String {
    format!("{{{}, {}}}", multiplier.factor, multiplier.shift)
}

/// The constants of the network as a whole; returns their bytes.
fn network_data(data: &mut String, network: CNetwork<'_>) -> usize {
    let mut bytes = 0;
    if let Some(standardisation) = network.standardisation() {
        bytes += array(data, "float input_mean", 4, standardisation.mean().iter().map(|&x| literal(x)));
        bytes += array(data, "float input_deviation", 4, standardisation.deviation().iter().map(|&x| literal(x)));
    }
    if let CNetwork::Integer(_, integer) = network {
        bytes += array(data, "float logit_scale", 4, integer.logit_scale.iter().map(|&x| literal(x)));
        _ = writeln!(data, "\n#define LARGEST_TERM {LARGEST_TERM}");
    }
    bytes
}

/// The table of the stages.
fn table(network: CNetwork<'_>, memory: &Memory) -> String {
    let mut text = String::from("static const stage stages[STAGES] = {\n");
    let has_queue = memory.stages.iter().any(|stage| stage.queue.is_some());
    for (i, (stage, places)) in network.stages().stages.iter().zip(&memory.stages).enumerate() {
        let integer = match network {
            CNetwork::Integer(_, integer) => Some(&integer.stages[i]),
            CNetwork::Float(_) => None,
        };
        _ = writeln!(text, "    {{ /* {} */", stage.form.name);
        for (key, value) in fields(network, i, (&stage.form, places), integer, has_queue) {
            _ = writeln!(text, "        .{key} = {value},");
        }
        text += "    },\n";
    }
    text + "};\n"
}

/// The fields of a stage that are not 0.
fn fields(
    network: CNetwork<'_>,
    i: usize,
    (form, places): (&Form, &StageMemory),
    integer: Option<&IntegerStage>,
    has_queue: bool,
) -> Vec<(&'static str, String)> {
    let float = is_float(network);
    let wide = wide(network);
    let bytes_of = |source: usize| match (float, wide[source]) {
        (true, _) => 4,
        (false, true) => 2,
        (false, false) => 1,
    };
    let named = |name: &str, exists: bool| if exists { format!("{name}_{i}") } else { "NULL".into() };
    let location = |location: Option<Location>| match location {
        Some(Location::Wide(at)) => format!("wide_rows + {at}"),
        Some(Location::Rows(at)) => format!("rows + {at}"),
        None => "NULL".into(),
    };
    let has_weights = matches!(form.kernel, Kernel::Convolution(_) | Kernel::Dense);
    let (taps, dilation) = match form.kernel {
        Kernel::Convolution(geometry) => (geometry.k, geometry.dilation),
        _ => (form.span(), 1),
    };
    let mut fields = vec![
        ("weights", named("weights", has_weights)),
        ("bias", named("bias", has_weights || form.kernel == Kernel::Mean)),
        ("window", location(places.window)),
        ("sums", format!("all_sums + {}", places.sums)),
        ("kernel", kernel(form, wide[i] && !float).into()),
    ];
    if let Some(stage) = integer {
        fields.push(("rescale", named("rescale", !stage.rescale.is_empty())));
        fields.push(("zero_in", stage.zero_in.to_string()));
        fields.push(("zero_out", stage.zero_out.to_string()));
        fields.push(("most", stage.most.to_string()));
        if let Some(residual) = stage.residual {
            fields.push(("queue_zero", residual.zero.to_string()));
            fields.push(("queue_rescale", multiplier(&residual.rescale)));
        }
    }
    if has_queue {
        fields.push(("queue", location(places.queue.map(|(_, at)| at))));
    }
    if let (Some(source), Some((rows, _))) = (form.residual, places.queue) {
        fields.push(("queue_source", source.to_string()));
        fields.push(("queue_rows", rows.to_string()));
        fields.push(("queue_row_bytes", (form.output.c * bytes_of(source)).to_string()));
    }
    let numbers = [
        ("relu", usize::from(form.relu)),
        ("taps", taps),
        ("dilation", dilation),
        ("stride", form.stride()),
        ("span", form.span()),
        ("before", form.before()),
        ("rows_in", form.input.l),
        ("channels_in", form.input.c),
        ("row_bytes", form.input.c * bytes_of(i)),
        ("rows", form.rows),
        ("channels", form.output.c),
        ("pool", form.pool.k),
        ("pool_stride", form.pool.stride),
        ("rows_out", form.output.l),
    ];
    fields.extend(numbers.map(|(key, value)| (key, value.to_string())));
    fields
}
