//! The paths of the server and what each does.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, MatchedPath, Path, Request, State};
use axum::http::header::{
    CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE,
};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use contextune::run::RunFolder;
use serde::Serialize;
use tokio_util::io::ReaderStream;
use utoipa::openapi::OpenApi as OpenApiDocument;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};

use crate::answer::{Answer, ErrorBody, Refusal};
use crate::guard::{ForeignPage, Unauthorized};
use crate::intake::{self, JsonRequest};
use crate::lesson::{self, LessonProgress};
use crate::shelf::{Entry, LearnedEntry};
use crate::state::ServerState;
use crate::worker::Question;
use crate::{guard, page};

/// A page of a run holds pictures and styles in itself, and nothing else.
const REPORT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
/// More than the page's form can have, in bytes.
const LOGIN: usize = 4096;

/// Builds the router of all paths.
pub(crate) fn router(state: Arc<ServerState>) -> Router {
    let open = Router::new()
        .route("/healthz", get(health))
        .route("/openapi.json", get(openapi))
        .route(
            "/login",
            post(guard::login).layer(DefaultBodyLimit::max(LOGIN)),
        )
        .merge(page::router());
    let guarded = Router::new()
        .route("/metrics", get(metrics))
        .route("/v1/models", get(models))
        .route("/v1/models/{name}/report.html", get(report))
        .route("/v1/models/{name}/prompt.safetensors", get(prompt))
        // Bodies are bounded where they are read.
        .route(
            "/v1/predict",
            post(predict).layer(DefaultBodyLimit::disable()),
        )
        .route("/v1/teach/{name}", get(lesson_progress).delete(stop_lesson));
    let in_time = middleware::from_fn_with_state(Arc::clone(&state), in_time);
    let guard = middleware::from_fn_with_state(Arc::clone(&state), guard::token);
    // A lesson is large and has a pace of its own.
    let lesson = Router::new().route(
        "/v1/teach",
        post(teach).layer(DefaultBodyLimit::max(lesson::MOST_BYTES)),
    );
    open.merge(guarded.layer(guard.clone()))
        .layer(in_time)
        .merge(lesson.layer(guard))
        .method_not_allowed_fallback(|| async {
            Refusal::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this address takes another method; see /openapi.json",
            )
        })
        .fallback(|| async {
            Refusal::new(
                StatusCode::NOT_FOUND,
                "there is nothing at this address; see /openapi.json",
            )
        })
        .layer(middleware::from_fn_with_state(
            Arc::clone(&state),
            guard::origin,
        ))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), count))
        .with_state(state)
}

/// Refuses a request that is neither complete nor answered in time.
async fn in_time(
    State(state): State<Arc<ServerState>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let patience = 2 * state.limits.patience + Duration::from_secs(1);
    let answered = tokio::time::timeout(patience, next.run(request)).await;
    answered.map_err(|_| {
        Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            "the request did not arrive in time",
        )
    })
}

/// Counts each request and its duration, and tells browsers not to guess the type of an answer.
async fn count(State(state): State<Arc<ServerState>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let path = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    let path = path.as_ref().map_or("elsewhere", MatchedPath::as_str);
    state
        .metrics
        .request(path, response.status().as_u16(), started.elapsed());
    response = in_json(response);
    response.headers_mut().insert(
        HeaderName::from_static("x-content-type-options"),
        HeaderValue::from_static("nosniff"),
    );
    response
}

/// Turns the framework's own refusals, as of a path or a form that cannot be read, into the server's JSON form.
fn in_json(response: Response) -> Response {
    let kind = response.headers().get(CONTENT_TYPE);
    let is_plain = kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    match response.status() {
        status if is_plain && status.is_client_error() => {
            let problem = status.canonical_reason().unwrap_or("it cannot be read");
            Refusal::new(
                status,
                format!("{problem}: see /openapi.json for what is expected"),
            )
            .into_response()
        }
        _ => response,
    }
}

/// The document that describes the interface.
#[derive(OpenApi)]
#[openapi(
    modifiers(&TokenScheme),
    info(
        title = "Contextune",
        description = "Asks learned prompts about pictures, and teaches new ones."
    ),
    paths(
        health,
        guard::login,
        metrics,
        models,
        report,
        prompt,
        predict,
        teach,
        lesson_progress,
        stop_lesson
    )
)]
struct Description;

/// Adds the security scheme: how the access token is shown, where the server asks for one.
struct TokenScheme;

impl Modify for TokenScheme {
    fn modify(&self, document: &mut OpenApiDocument) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", scheme);
        // Without one where the server asks for none.
        let ways = [
            SecurityRequirement::default(),
            SecurityRequirement::new("token", [""; 0]),
        ];
        document.security = Some(ways.into());
    }
}

async fn openapi() -> Json<OpenApiDocument> {
    Json(Description::openapi())
}

#[derive(Serialize, ToSchema)]
struct Health {
    #[schema(example = "ok")]
    status: &'static str,
}

/// Whether the server answers.
#[utoipa::path(get, path = "/healthz", responses((status = 200, body = Health)))]
async fn health() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// Counters in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", responses(Unauthorized, ForeignPage,
        (status = 200, body = String, content_type = "application/openmetrics-text")))]
async fn metrics(State(state): State<Arc<ServerState>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    (
        [(CONTENT_TYPE, kind)],
        state.metrics.text(state.queue.waiting()),
    )
}

/// What can be asked.
#[derive(Serialize, ToSchema)]
struct Models {
    /// The first answers where no model is named.
    models: Vec<ModelDescription>,
    /// Whether new ones can be taught.
    teach: bool,
    limits: LimitsDescription,
}

#[derive(Serialize, ToSchema)]
struct LimitsDescription {
    /// Bytes of a picture.
    picture_bytes: usize,
    /// Pixels of a picture, width x height.
    pixels: u64,
    /// Pictures in a request.
    pictures: usize,
    /// Bytes of a whole request.
    request_bytes: usize,
}

/// Something that can be asked.
#[derive(Serialize, ToSchema)]
struct ModelDescription {
    #[schema(example = "photos")]
    name: String,
    /// `learned`: a prompt; `zero-shot`: the words of a model, which need `classes`.
    kind: &'static str,
    /// As `contextune train` names it.
    #[schema(example = "coop")]
    method: String,
    /// The frozen model.
    backbone: String,
    /// What answers with the words of the same model; absent if it knows none.
    #[serde(skip_serializing_if = "Option::is_none")]
    zero_shot: Option<String>,
    /// Those it was learned for.
    classes: Vec<String>,
    /// Whether a request may name others.
    takes_other_classes: bool,
    /// Share of its test pictures that it classified rightly, 0 to 1.
    accuracy: Option<f32>,
    /// Pictures of each class that it learned from; absent: all.
    shots: Option<usize>,
    /// How many numbers were learned.
    learned_numbers: Option<usize>,
    /// Size of the prompt file.
    prompt_bytes: Option<u64>,
    /// Whether there is a page that shows it.
    report: bool,
    /// Whether it was taught here.
    taught: bool,
}

impl ModelDescription {
    fn of(entry: &Entry) -> Self {
        let backbone = &entry.backbone;
        let words = Self {
            name: entry.name.clone(),
            kind: "zero-shot",
            method: entry.settings.method.name().to_owned(),
            backbone: backbone.source.clone().unwrap_or("embedded".into()),
            zero_shot: backbone.zero_shot.clone(),
            classes: Vec::new(),
            takes_other_classes: true,
            accuracy: None,
            shots: None,
            learned_numbers: None,
            prompt_bytes: None,
            report: false,
            taught: false,
        };
        match &entry.learned {
            None => words,
            Some(LearnedEntry {
                folder,
                learned,
                result,
                taught,
            }) => Self {
                kind: "learned",
                classes: learned.file.class_names.clone(),
                takes_other_classes: learned.method().takes_other_classes(),
                accuracy: result.as_ref().and_then(|result| result.accuracy),
                shots: learned.settings.shots,
                learned_numbers: Some(learned.file.parameters.elements()),
                prompt_bytes: folder.prompt_bytes(),
                report: folder.report_file().exists(),
                taught: *taught,
                ..words
            },
        }
    }
}

/// What can be asked: runs, then words, then what was taught.
#[utoipa::path(get, path = "/v1/models", responses(Unauthorized, ForeignPage, (status = 200, body = Models)))]
async fn models(State(state): State<Arc<ServerState>>) -> Json<Models> {
    Json(Models {
        models: state
            .shelf
            .entries()
            .iter()
            .map(|entry| ModelDescription::of(entry))
            .collect(),
        teach: state.lessons.is_some(),
        limits: LimitsDescription {
            picture_bytes: state.limits.picture_bytes,
            pixels: state.limits.pixels,
            pictures: state.limits.pictures(),
            request_bytes: state.limits.request_bytes(),
        },
    })
}

fn no_such(name: &str) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        format!("there is no model {name:?}; see /v1/models"),
    )
}

/// Streams a file of a learned run.
async fn run_file(
    state: &ServerState,
    name: &str,
    file: impl Fn(&RunFolder) -> PathBuf,
    problem: impl Fn(io::Error) -> String,
) -> Result<([(HeaderName, u64); 1], Body), Refusal> {
    let missing = |problem| Refusal::new(StatusCode::NOT_FOUND, problem);
    let entry = state.shelf.find(Some(name)).ok_or_else(|| no_such(name))?;
    let Some(run) = &entry.learned else {
        return Err(missing(format!("{name} has no file: nothing was learned")));
    };
    let opened = async {
        let file = tokio::fs::File::open(file(&run.folder)).await?;
        let bytes = file.metadata().await?.len();
        io::Result::Ok((file, bytes))
    };
    let (file, bytes) = opened.await.map_err(|error| missing(problem(error)))?;
    let body = Body::from_stream(ReaderStream::new(file));
    Ok(([(CONTENT_LENGTH, bytes)], body))
}

/// The page that shows what was learned.
#[utoipa::path(get, path = "/v1/models/{name}/report.html", params(("name" = String, Path,)),
    responses(Unauthorized, ForeignPage,
        (status = 200, body = String, content_type = "text/html"), (status = 404, body = ErrorBody)))]
async fn report(
    State(state): State<Arc<ServerState>>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let page = run_file(&state, &name, RunFolder::report_file, |_| {
        format!("{name} has no page: no report of it has been made yet")
    })
    .await?;
    let headers = [
        (CONTENT_TYPE, "text/html; charset=utf-8"),
        (CONTENT_SECURITY_POLICY, REPORT_POLICY),
    ];
    Ok((headers, page).into_response())
}

/// The prompt file, to be used elsewhere.
#[utoipa::path(get, path = "/v1/models/{name}/prompt.safetensors", params(("name" = String, Path,)),
    responses(Unauthorized, ForeignPage,
        (status = 200, body = String, content_type = "application/octet-stream"), (status = 404, body = ErrorBody)))]
async fn prompt(
    State(state): State<Arc<ServerState>>,
    Path(name): Path<String>,
) -> Result<Response, Refusal> {
    let bytes = run_file(&state, &name, RunFolder::prompt_file, |error| {
        format!("the prompt of {name} cannot be read: {error}")
    })
    .await?;
    let headers = [
        (CONTENT_TYPE, "application/octet-stream"),
        (
            CONTENT_DISPOSITION,
            "attachment; filename=\"prompt.safetensors\"",
        ),
    ];
    Ok((headers, bytes).into_response())
}

/// A request for predictions as a form; any part with a file name is a picture.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "it describes the form, which is read part by part"
)]
struct FormRequest {
    /// Name of the model; absent: the first.
    model: Option<String>,
    /// Classes to choose from, one a line or separated by commas; absent: those that the model learned.
    classes: Option<String>,
    /// For words alone: sentences with `{}` where the class stands, one a line.
    templates: Option<String>,
    /// Classes to name for each picture, 1 to 100.
    top: Option<usize>,
    /// A picture; there can be many.
    #[schema(format = Binary, value_type = Vec<String>)]
    image: Vec<Vec<u8>>,
}

/// Says what is on pictures. The features of recent pictures are remembered: the same picture with other classes costs
/// next to nothing.
#[utoipa::path(post, path = "/v1/predict",
    request_body(content((FormRequest = "multipart/form-data"), (JsonRequest = "application/json"))),
    responses(Unauthorized, ForeignPage,
        (status = 500, body = ErrorBody, description = "the server failed on this request"),
        (status = 200, body = Answer),
        (status = 400, body = ErrorBody, description = "malformed"),
        (status = 404, body = ErrorBody, description = "no such model"),
        (status = 408, body = ErrorBody, description = "the request did not arrive in time"),
        (status = 413, body = ErrorBody, description = "too large"),
        (status = 415, body = ErrorBody, description = "neither a form nor JSON"),
        (status = 422, body = ErrorBody, description = "no picture can be read, or classes or templates cannot be used"),
        (status = 503, body = ErrorBody, description = "too many requests are waiting"),
    ))]
async fn predict(
    State(state): State<Arc<ServerState>>,
    request: Request,
) -> Result<Json<Answer>, Refusal> {
    state.queue.check()?;
    let asked = intake::predict_request(request, &state.limits, &state.memory).await?;
    let entry = state
        .shelf
        .find(asked.model.as_deref())
        .ok_or_else(|| no_such(asked.model.as_deref().unwrap_or_default()))?;
    let question = Question {
        entry,
        wording: asked.wording,
        top: asked.top,
        pictures: asked.pictures,
        _memory: asked.memory,
    };
    Ok(Json(state.queue.ask(question).await?))
}

/// A lesson as a form: the fields first, then every picture as a file part whose name is `class/` and the class.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "it describes the form, which is read part by part"
)]
struct LessonForm {
    /// What the new model is called: letters, digits, `-`, `_` and `.`, at most 64.
    #[schema(example = "pets")]
    name: String,
    /// `coop` (a learned context in front of the class names) or `linear-probe` (a classifier on the features).
    #[schema(example = "coop")]
    method: Option<String>,
    /// Any model whose frozen model is to be used; absent: the first.
    backbone: Option<String>,
    /// A picture of this class.
    #[schema(format = Binary, value_type = Option<Vec<String>>, rename = "class/cat")]
    picture: Option<Vec<Vec<u8>>>,
}

/// Documents the refusals of the paths under `/v1/teach`.
#[derive(IntoResponses)]
#[response(
    status = 403,
    description = "nothing can be taught here, or another site's page asks"
)]
#[expect(dead_code, reason = "it documents a response and is never made")]
struct NotTaughtHere(ErrorBody);

/// A lesson that has begun.
#[derive(Serialize, ToSchema)]
struct Begun {
    name: String,
    /// Where to ask how far it is.
    #[schema(example = "/v1/teach/pets")]
    status: String,
}

/// Learns a new prompt from pictures; one lesson at a time.
#[utoipa::path(post, path = "/v1/teach", request_body(content = LessonForm, content_type = "multipart/form-data"),
    responses(Unauthorized, NotTaughtHere,
        (status = 400, body = ErrorBody, description = "malformed"),
        (status = 408, body = ErrorBody, description = "the lesson did not arrive in time"),
        (status = 413, body = ErrorBody, description = "too large"),
        (status = 500, body = ErrorBody, description = "the disk cannot be written"),
        (status = 503, body = ErrorBody, description = "too many lessons arrive, or the server is stopping"),
        (status = 202, body = Begun),
        (status = 409, body = ErrorBody, description = "the name is taken, or another lesson is under way"),
        (status = 422, body = ErrorBody, description = "the lesson cannot be learned from"),
    ))]
async fn teach(
    State(state): State<Arc<ServerState>>,
    request: Request,
) -> Result<Response, Refusal> {
    let name = lesson::begin(lessons(&state)?, request, &state.limits).await?;
    let status = format!("/v1/teach/{name}");
    Ok((StatusCode::ACCEPTED, Json(Begun { name, status })).into_response())
}

/// How far a lesson is.
#[utoipa::path(get, path = "/v1/teach/{name}", params(("name" = String, Path,)),
    responses(Unauthorized, NotTaughtHere,
        (status = 200, body = LessonProgress), (status = 404, body = ErrorBody)))]
async fn lesson_progress(
    State(state): State<Arc<ServerState>>,
    Path(name): Path<String>,
) -> Result<Json<LessonProgress>, Refusal> {
    let progress = lessons(&state)?.progress(&name);
    progress.map(Json).ok_or_else(|| no_lesson(&name))
}

/// Ends a lesson after its epoch.
#[utoipa::path(delete, path = "/v1/teach/{name}", params(("name" = String, Path,)),
    responses(Unauthorized, NotTaughtHere,
        (status = 204), (status = 404, body = ErrorBody)))]
async fn stop_lesson(
    State(state): State<Arc<ServerState>>,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    match lessons(&state)?.stop_one(&name) {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(no_lesson(&name)),
    }
}

fn lessons(state: &ServerState) -> Result<&Arc<lesson::Lessons>, Refusal> {
    state.lessons.as_ref().ok_or_else(|| {
        Refusal::new(
            StatusCode::FORBIDDEN,
            "nothing can be taught on this server",
        )
    })
}

fn no_lesson(name: &str) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        format!("there was no lesson {name:?} since the server started"),
    )
}
